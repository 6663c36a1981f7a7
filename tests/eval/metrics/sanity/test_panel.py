"""Flags fire on what they are about, at the level they claim, and stay silent otherwise."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ferd_eval.metrics import scorecard
from ferd_eval.metrics.sanity.check import classes as named
from ferd_eval.metrics.sanity.check import excess, excess_p, images, less_p
from ferd_eval.metrics.sanity.network_checks import network_checks
from ferd_eval.metrics.sanity.panel import trust_panel
from ferd_eval.results.outcomes import Outcomes, conform


def outcomes(correct, labels, stages=None, classes=4, constants=None, **manifest):
    """Rows of each attack from its vector of correctness; a wrong prediction is the next class."""
    labels = np.asarray(labels)
    frames = []
    clean = np.where(correct.get("clean", True), labels, (labels + 1) % classes)
    for attack, right in correct.items():
        pred = np.where(right, labels, (labels + 1) % classes)
        stage = (stages or {}).get(attack, [pd.NA] * len(labels))
        frames.append(
            pd.DataFrame(
                {
                    "index": np.arange(len(labels)), "label": labels, "attack": attack,
                    "target": pd.array([pd.NA] * len(labels), "Int32"), "clean_pred": clean,
                    "adv_pred": pred, "correct": pred == labels, "margin": 0.0,
                    "confidence": 0.5, "stage": pd.array(stage, "string"), "steps": 1, "linf": 0.0,
                }
            )
        )  # fmt: skip
    manifest = {
        "dataset": {"name": "d", "class_names": [f"c{k}" for k in range(classes)]},
        "attacks": {attack: (constants or {}).get(attack, {"eps": 0.1}) for attack in correct},
        **manifest,
    }
    return Outcomes(conform(pd.concat(frames, ignore_index=True)), manifest)


def _warnings(run):
    return trust_panel(run).warnings


def test_an_ordinary_run_has_no_flags():
    labels = np.repeat(np.arange(4), 50)
    clean = np.tile(np.r_[np.ones(45), np.zeros(5)].astype(bool), 4)
    pgd = np.tile(np.r_[np.ones(25), np.zeros(25)].astype(bool), 4)
    pgd[:3] = False  # class 0 is lowest under every attack
    run = outcomes(
        {"clean": clean, "fgsm": clean & (pgd | (labels > 1)), "pgd": pgd, "aa": pgd}, labels
    )
    assert _warnings(run) == ()


def test_masking_over_all_images_and_in_one_class():
    labels = np.repeat(np.arange(4), 50)
    right = np.ones(200, dtype=bool)
    fgsm = right.copy()
    fgsm[::5] = False
    (flag,) = _warnings(outcomes({"clean": right, "fgsm": fgsm, "pgd": right}, labels))
    assert "FGSM breaks 40 images" in flag
    in_one = right.copy()
    in_one[:12] = False  # class 0 only, while PGD is far stronger elsewhere
    pgd = right.copy()
    pgd[60:] = False
    (flag,) = _warnings(outcomes({"clean": right, "fgsm": in_one, "pgd": pgd}, labels))
    assert "in 1 class (c0)" in flag


def test_masking_is_rarely_flagged_when_there_is_none():
    """FGSM and PGD that break equally many at random: at most 2 % of runs (1 % + 1 %)."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    right = np.ones(400, dtype=bool)
    flagged = sum(
        bool(
            _warnings(
                outcomes(
                    {
                        "clean": right,
                        "fgsm": generator.random(400) < 0.7,
                        "pgd": generator.random(400) < 0.7,
                    },
                    labels,
                )
            )
        )
        for _ in range(300)
    )
    assert flagged <= stats.binom.ppf(0.999, 300, 0.02)


def right(total=200, *wrong):
    """All right but these ranges."""
    mask = np.ones(total, dtype=bool)
    for start, stop in wrong:
        mask[start:stop] = False
    return mask


LABELS = np.repeat(np.arange(4), 50)


def check(run, name):
    """The one check of a name, or that begins with it."""
    (found,) = [each for each in trust_panel(run).checks if each.name.startswith(name)]
    return found


@pytest.mark.parametrize(("count", "n", "share"), [(0, 0, 0.5), (3, 4, 0.5), (7, 90, 0.05)])
def test_excess_p_is_scipys_exact_test(count, n, share):
    expected = stats.binomtest(count, n, share, alternative="greater").pvalue if n else 1.0
    assert excess_p(count, n, share) == pytest.approx(expected)


@pytest.mark.parametrize("table", [(3, 20, 9, 15), (0, 5, 5, 5), (5, 5, 0, 5), (40, 100, 39, 90)])
def test_less_p_is_fishers_exact_test(table):
    low, n_low, high, n_high = table
    cells = [[low, n_low - low], [high, n_high - high]]
    expected = stats.fisher_exact(cells, alternative="less").pvalue
    assert less_p(*table) == pytest.approx(expected)


def test_excess_divides_its_level_among_classes():
    n = np.full(10, 50)
    p = stats.binomtest(34, 50, 0.5, alternative="greater").pvalue
    assert 0.001 < p < 0.01
    count = np.full(10, 25)
    count[3] = 34
    assert excess(count, n, 0.5)[1].tolist() == []
    count[3] = 38
    assert excess(count, n, 0.5) == (False, [3])


def test_counts_agree_with_their_nouns():
    assert (images(1), images(2), images(0)) == ("1 image", "2 images", "0 images")
    assert named(("a",)) == "1 class (a)"
    fgsm, pgd = right(200, (0, 1)), right(200, (1, 3))
    assert "FGSM breaks 1 image that PGD does not, PGD 2 images" in (
        check(outcomes({"clean": right(), "fgsm": fgsm, "pgd": pgd}, LABELS), "FGSM").statement
    )


def test_clean_accuracy_near_chance_and_classes_below_it():
    low = np.arange(200) % 4 == 0
    assert "near chance" in _warnings(outcomes({"clean": low}, LABELS))[0]
    swapped = check(outcomes({"clean": right(200, (50, 100))}, LABELS), "Clean")
    assert swapped.status == "warning"
    assert swapped.classes == ("c1",)
    assert "below chance in 1 class (c1)" in swapped.statement
    few = check(outcomes({"clean": right(12, (0, 3))}, np.repeat(np.arange(4), 3)), "Clean")
    assert few.status == "ok"  # 0 of 3 is no evidence
    assert few.per_class.count == (0, 3, 3, 3)


def test_a_wide_gap_is_flagged_on_average_and_in_its_class():
    run = outcomes({"clean": right(), "pgd": right(), "aa": right(200, (150, 190))}, LABELS)
    found = check(run, "PGD against")
    assert found.status == "warning"
    assert found.classes == ("c3",)
    assert "20.0 points below PGD on average and 80.0 in class c3" in found.statement


def test_a_gap_in_one_class_is_flagged_where_the_average_is_narrow():
    labels = np.repeat(np.arange(20), 50)
    aa = right(1000, (0, 25))
    run = outcomes({"clean": right(1000), "pgd": right(1000), "aa": aa}, labels, classes=20)
    found = check(run, "PGD against")
    assert found.status == "warning"
    assert "1 class (c0)" in found.statement
    assert found.per_class.count[0] == 25


def test_three_images_prove_no_gap():
    labels = np.repeat(np.arange(4), 3)
    run = outcomes({"clean": right(12), "pgd": right(12), "aa": right(12, (0, 3))}, labels)
    found = check(run, "PGD against")
    assert found.status == "ok"
    assert "25.0 points below PGD on average and 100.0 in class c0" in found.statement


def test_the_lowest_class_may_change_by_chance_but_not_beyond():
    def lowest(pgd, aa):
        return check(outcomes({"clean": right(), "pgd": pgd, "aa": aa}, LABELS), "Lowest")

    by_chance = lowest(right(200, (0, 2)), right(200, (0, 2), (150, 153)))
    assert by_chance.status == "ok"
    assert "c0 under PGD and c3 under AutoAttack, a difference that chance" in by_chance.statement
    beyond = lowest(right(200, (0, 20)), right(200, (0, 20), (150, 195)))
    assert beyond.status == "warning"
    assert beyond.classes == ("c0", "c3")
    tied = lowest(right(200, (0, 2), (50, 52)), right(200, (50, 55)))
    assert tied.statement == "The lowest class is c1 under both attacks."


def test_what_square_finds_after_gradients():
    def square(broken, labels=LABELS, **more):
        stages = {"aa": ["square" if i < broken else pd.NA for i in range(len(labels))]}
        aa = right(len(labels), (0, broken))
        plain = right(len(labels))
        run = outcomes({"clean": plain, "aa": aa}, labels, stages, **more)
        return check(run, "Square")

    assert square(0).status == "ok"
    assert "Square broke 1 of 200 images" in square(1).statement
    assert square(1).status == "ok"  # a few in a thousand happen to honest networks
    assert square(8).status == "warning"
    assert square(8).classes == ("c0",)
    # Of 2000 images 8 are no more than usual, unless they are all of one class.
    mixed = np.tile(np.arange(4), 500)
    assert square(8, mixed).status == "ok"


def test_square_in_an_audit_counts_against_the_sample():
    labels = np.tile(np.arange(4), 500)
    stages = {"aa-audited": ["square" if i < 4 else pd.NA for i in range(2000)]}
    right_4 = right(2000, (0, 4))
    plain = {"clean": right(2000), "aa-audited": right_4}
    run = outcomes(plain, labels, stages, audits={"aa-audited": list(range(100))})
    found = check(run, "Square")
    assert found.status == "warning"
    assert "4 of 100 images" in found.statement
    assert found.per_class.n == (25,) * 4
    assert check(outcomes(plain, labels, stages), "Square").status == "ok"


def test_without_a_record_of_stages_square_is_not_judged():
    run = outcomes({"clean": right(), "aa": right(200, (0, 9))}, LABELS)
    assert check(run, "Square").status == "not measured"


def profile_run(eps_texts=("2/255", "8/255")):
    """FGSM masked at the first ε only, PGD weak at the last only."""
    correct, of = {"clean": right()}, {"clean": {"family": "clean", "eps": 0.0}}
    for i, text in enumerate(eps_texts):
        first = i == 0
        correct |= {
            f"fgsm@{text}": right(200, (0, 40)) if first else right(),
            f"pgd@{text}": right(),
            f"aa@{text}": right() if first else right(200, (150, 190)),
        }
        eps = int(text.partition("/")[0]) / 255
        of |= {
            f"{family}@{text}": {"family": family, "eps": eps, "eps_text": text}
            for family in ("fgsm", "pgd", "aa")
        }
    return outcomes(correct, LABELS, constants=of)


def test_each_eps_is_compared_by_itself():
    panel = trust_panel(profile_run())
    status = {each.name: each.status for each in panel.checks}
    assert status["FGSM against PGD at ε = 2/255"] == "warning"
    assert status["FGSM against PGD at ε = 8/255"] == "ok"
    assert status["PGD against AutoAttack at ε = 2/255"] == "ok"
    assert status["PGD against AutoAttack at ε = 8/255"] == "warning"
    assert [(gap.first, gap.second, gap.eps_text) for gap in panel.gaps] == [
        ("pgd@2/255", "aa@2/255", "2/255"), ("pgd@8/255", "aa@8/255", "8/255"),
    ]  # fmt: skip
    assert all("ε = 2/255" in each for each in panel.warnings if "FGSM" in each)


def test_attacks_at_different_eps_are_not_compared():
    of = {
        "fgsm@2/255": {"family": "fgsm", "eps": 2 / 255},
        "pgd@8/255": {"family": "pgd", "eps": 8 / 255},
    }
    run = outcomes({"fgsm@2/255": right(200, (0, 40)), "pgd@8/255": right()}, LABELS, constants=of)
    assert check(run, "FGSM").status == "not measured"


def test_a_preset_stands_in_for_its_family_and_the_plain_one_goes_first():
    of = {name: {"family": "pgd", "eps": 0.1} for name in ("pgd:rslad", "pgd")}
    masked = {"fgsm": right(200, (0, 40)), "pgd:rslad": right()}
    assert check(outcomes(masked, LABELS, constants=of), "FGSM").status == "warning"
    both = {**masked, "pgd": right(200, (0, 60))}
    assert check(outcomes(both, LABELS, constants=of), "FGSM").status == "ok"
    by_id = {"fgsm@0.1": right(200, (0, 40)), "pgd:rslad@0.1": right()}
    run = outcomes(by_id, LABELS, constants={name: {} for name in by_id})
    assert check(run, "FGSM").status == "warning"


def test_what_did_not_run_is_not_measured():
    panel = trust_panel(outcomes({"clean": right()}, LABELS))
    assert [each.status for each in panel.checks] == ["ok"] + ["not measured"] * 12
    assert panel.gaps == ()


def noise_run(generator, classes, per_class, threshold):
    """No effect: equal FGSM and PGD, and a gap exactly as wide as is tolerated."""
    n = classes * per_class
    labels = np.repeat(np.arange(classes), per_class)
    pgd = generator.random(n) < 0.8
    aa = pgd & (generator.random(n) >= threshold / 0.8)
    broken = pgd & ~aa
    square = broken & (generator.random(n) < 0.002 * 0.75 / threshold)
    stages = np.where(square, "square", np.where(broken, "apgd-t>1", None))
    correct = {
        "clean": np.ones(n, bool), "fgsm": generator.random(n) < 0.8, "pgd": pgd, "aa": aa
    }  # fmt: skip
    return outcomes(correct, labels, {"aa": [s or pd.NA for s in stages]}, classes)


@pytest.mark.parametrize(("classes", "per_class"), [(10, 20), (10, 100), (50, 5)])
def test_false_alarms_are_as_rare_as_claimed(classes, per_class):
    """Each check: 1 % overall plus 1 % over classes, at the edge of what it tolerates."""
    generator, repeats = np.random.default_rng(1), 150
    alarms = dict.fromkeys(("FGSM", "PGD", "Lowest", "Square"), 0)
    for _ in range(repeats):
        for each in trust_panel(noise_run(generator, classes, per_class, 0.05)).checks:
            first = each.name.split()[0]
            if first in alarms:
                alarms[first] += each.status == "warning"
    most = stats.binom.ppf(0.999, repeats, 0.02)
    assert max(alarms.values()) <= most, alarms


def tally(count_by_class, n_by_class):
    return {
        "n": int(np.sum(n_by_class)), "count": int(np.sum(count_by_class)), "changed": 0,
        "n_by_class": list(map(int, n_by_class)), "count_by_class": list(map(int, count_by_class)),
    }  # fmt: skip


def test_false_alarms_about_the_network_are_as_rare_as_claimed():
    """Counts drawn at the tolerated share: the look at a network warns in 2 % of cases at most."""
    generator, repeats, n = np.random.default_rng(2), 2000, np.full(10, 26)
    alarms = {"Zero gradients": 0, "Accuracy at 4ε": 0}
    for _ in range(repeats):
        diagnosis = {
            "zero_gradients": {"margin": tally(generator.binomial(n, 0.05), n)},
            "far": {"eps": 0.1, "eps_text": "0.1", **tally(generator.binomial(n, 0.1), n)},
        }
        for each in network(diagnosis, 10):
            if each.name in alarms:
                alarms[each.name] += each.status == "warning"
    assert max(alarms.values()) <= stats.binom.ppf(0.999, repeats, 0.02), alarms
    assert min(alarms.values()) > 0


def network(diagnosis, classes=4):
    return network_checks(diagnosis, [f"c{k}" for k in range(classes)])


def test_the_look_at_the_network_is_read_from_the_manifest():
    far = {"far": {"eps": 0.1, "eps_text": "0.1", **tally([9] * 4, [10] * 4)}}
    run = outcomes({"clean": right()}, LABELS, diagnosis=far)
    assert trust_panel(run).checks[-7:] == network(far)
    assert check(run, "Accuracy at 4ε").classes == ("c0", "c1", "c2", "c3")


def test_a_loss_that_climbs_for_nine_images_of_ten_is_no_alarm():
    generator, repeats, n = np.random.default_rng(3), 1000, np.full(10, 4)
    alarms = 0
    for _ in range(repeats):
        loss = {"steps": [1, 20], "mean": [1.0, 2.0], **tally(generator.binomial(n, 0.9), n)}
        alarms += network({"loss": loss}, 10)[-1].status == "warning"
    assert alarms <= 0.01 * repeats


def test_a_loss_that_does_not_climb_is_one():
    flat = {"steps": [1, 20], "mean": [1.0, None], **tally([10] * 4, [20] * 4)}
    found = network({"loss": flat})[-1]
    assert found.status == "warning"
    assert "rises on 40 of 80 images (mean 1 → ∞ after 1 and 20)" in found.statement
    in_one = {"steps": [1, 20], "mean": [1.0, 2.0], **tally([20, 20, 20, 2], [20] * 4)}
    assert network({"loss": in_one})[-1].classes == ("c3",)


def test_flags_are_in_the_scorecard():
    labels = np.repeat(np.arange(4), 50)
    run = outcomes({"clean": np.arange(200) % 4 == 0}, labels)
    plain = scorecard(run).to_dict()
    assert plain["flags"] == list(_warnings(run)) != []
    assert [each["statement"] for each in plain["trust"]["checks"] if each["status"] == "warning"]
    assert plain["trust"]["checks"][0]["per_class"] == {
        "what": "right without an attack", "count": [13, 12, 13, 12], "n": [50] * 4
    }  # fmt: skip
