"""What a class may lose to an attack, and what it surely keeps, against exact probabilities."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats

from ferd_eval.errors import UserError
from ferd_eval.metrics import class_drops, class_floors, scorecard
from ferd_eval.metrics.comparison.paired import Paired
from tests.eval.metrics.simulated_run import rows, run, simulate


def paired(n, both, first_only, second_only):
    return Paired(*(np.atleast_1d(part) for part in (n, both, first_only, second_only)))


@pytest.mark.parametrize(
    ("n", "lost", "regained"), [(100, 30, 0), (100, 30, 4), (50, 0, 0), (7, 7, 0), (9, 0, 9)]
)
def test_the_limit_is_scipys(n, lost, regained):
    """Two sides of 97.5 % each are a two-sided interval of 95 %, Clopper–Pearson."""
    of_lost = stats.binomtest(lost, n).proportion_ci(0.95, "exact")
    of_regained = stats.binomtest(regained, n).proportion_ci(0.95, "exact")
    limit = paired(n, 0, lost, regained).gap_at_most(0.05)
    assert limit[0] == pytest.approx(of_lost.high - of_regained.low)


@pytest.mark.parametrize("lost", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("regained", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("n", [3, 12, 25])
def test_the_limit_covers_by_enumeration(n, lost, regained):
    covered = 0.0
    for b, c in product(range(n + 1), repeat=2):
        if b + c > n:
            continue
        chance = comb(n, b) * comb(n - b, c) * lost**b * regained**c
        chance *= (1 - lost - regained) ** (n - b - c)
        if paired(n, 0, b, c).gap_at_most(0.05)[0] >= lost - regained - 1e-12:
            covered += chance
    assert covered >= 0.95


def test_showing_all_classes_needs_no_correction_and_errs_at_most_at_5_percent():
    """One class of three loses just what is allowed, the others clearly less."""
    generator, repeats, n, allowed = np.random.default_rng(0), 20_000, 200, 0.3
    lost_RK = generator.binomial(n, [allowed, 0.1, 0.2], (repeats, 3))
    limit_RK = np.stack([paired([n] * 3, [0] * 3, lost_K, [0] * 3).gap_at_most(0.05)
                         for lost_K in lost_RK])  # fmt: skip
    wrongly = (limit_RK <= allowed).all(axis=1).mean()
    assert wrongly <= 0.05
    assert (limit_RK[:, 1] <= allowed).mean() > 0.99, "a class far below is shown to be"


def test_drops_are_of_the_images_that_both_met():
    labels = [0, 0, 0, 0, 1, 1]
    clean = rows("clean", labels, [0, 0, 0, 1, 1, 1])
    attacked = rows("aa", labels[:5], [0, 1, 1, 0, 1], clean=[0, 0, 0, 1, 1])
    first, second, third = class_drops(run([clean, attacked], "abc"), "aa")
    assert (first.n, first.drop) == (4, 0.25)
    assert (second.n, second.drop) == (1, 0.0)
    assert (third.n, third.drop, third.at_most) == (0, None, None)


def test_an_image_aimed_at_several_classes_must_miss_them_all():
    clean = rows("clean", [0, 0], [0, 0])
    aimed = rows(
        "targeted", [0, 0, 0, 0], [0, 2, 0, 0], clean=[0] * 4,
        indices=[0, 0, 1, 1], targets=[1, 2, 1, 2],
    )  # fmt: skip
    (first, *_) = class_drops(run([clean, aimed], "abc"), "targeted")
    assert (first.n, first.drop) == (2, 0.5)


def test_images_without_a_clean_prediction_are_counted():
    clean = rows("clean", [0, 1], [0, 1], indices=[0, 1])
    attacked = rows("aa", [0, 1, 1], [0, 1, 1], clean=-1, indices=[0, 1, 2])
    with pytest.raises(UserError, match="1 of 3 images"):
        class_drops(run([clean, attacked], "ab"), "aa")


def test_what_an_audit_did_not_see_may_be_lost():
    """Coverage over what the audit draws and over the images themselves."""
    generator, n, sampled, repeats = np.random.default_rng(0), 120, 20, 3000
    falls_to_apgd, falls_to_the_rest = 0.3, 0.25
    truth = falls_to_apgd + falls_to_the_rest
    apgd_R = generator.binomial(n, falls_to_apgd, repeats)
    rest_R = generator.binomial(n - apgd_R, falls_to_the_rest / (1 - falls_to_apgd))
    seen_R = generator.hypergeometric(rest_R, n - apgd_R - rest_R, sampled)
    drawn, times = np.unique(np.stack([apgd_R, seen_R], axis=1), axis=0, return_counts=True)
    labels, covered = np.zeros(n, dtype=int), 0
    clean = rows("clean", labels, labels)
    for (apgd, seen), repeated in zip(drawn.tolist(), times.tolist(), strict=True):
        # Those that fall to APGD come first, then those of the sample that fall.
        audited = rows("aa-audited", labels, np.arange(n) < apgd + seen, clean=labels)
        sample = list(range(apgd, apgd + sampled))
        outcomes = run([clean, audited], "ab", audits={"aa-audited": sample})
        if class_drops(outcomes, "aa-audited")[0].at_most >= truth:
            covered += repeated
    assert covered / repeats >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.parametrize("attack", ["clean", "aa", "targeted"])
def test_the_floor_is_the_lowest_of_its_classes(attack):
    card = scorecard(simulate(targeted=True, empty=[3]))
    floors = class_floors(card.attacks[attack])
    assert floors[3] is None
    present = [each for each in floors if each is not None]
    assert min(present) == card.attacks[attack].floor95
    for each, floor in zip(card.attacks[attack].per_class, floors, strict=True):
        if floor is not None:
            correct = round(each.accuracy * each.n)
            exact = stats.binomtest(correct, each.n).proportion_ci(0.9, "exact").low
            assert floor == pytest.approx(exact)


def test_the_floors_of_an_audited_attack_are_the_audits():
    labels = np.repeat([0, 1], 30)
    clean, audited = rows("clean", labels, labels), rows("aa-audited", labels, labels)
    outcomes = run([clean, audited], "ab", audits={"aa-audited": list(range(20))})
    card = scorecard(outcomes).attacks["aa-audited"]
    assert card.audit is not None
    assert class_floors(card) == tuple(each.floor95 for each in card.audit.per_class)
    assert class_floors(card)[1] == card.floor95 == 0, "nobody of the second class was audited"
