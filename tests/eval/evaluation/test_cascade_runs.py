"""Cascades through the runner: stages, audits, what is kept of an image, stopping anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ferd_eval import score, scorecard
from ferd_eval.attacks import Attack, Cascade, SearchAttack, alone, plan_attacks
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.ensemble import cascade
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.evaluation.cost.eta import forecast
from ferd_eval.evaluation.cost.model import operations, search_unit
from ferd_eval.evaluation.evaluate import as_threats
from ferd_eval.metrics.intervals import wilson
from ferd_eval.metrics.worst_case import WORST_CASE, worst_case
from ferd_eval.report import Run, view
from tests.conftest import Killed, StopAfter, TinyNet, tiny_data

SEARCHES = (APGDCE(iterations=6), APGDT(iterations=3), FABT(iterations=4), Square(queries=60))
EPS = "0.012"


def short() -> Cascade:
    return cascade("aa", *SEARCHES)


def short_audited(sample: int) -> Cascade:
    first, second, third, fourth = (SearchAttack(each) for each in SEARCHES)
    return Cascade("aa-audited", (first, second), audits=(third, fourth), sample=sample)


@pytest.fixture(scope="module")
def net():
    return TinyNet(num_classes=10).double().eval()


@pytest.fixture(scope="module")
def data():
    return tiny_data(n=120, num_classes=10)


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr("ferd_eval.evaluation.run_manifest.search_unit", lambda *_: 16)


def rows_of(outcomes, attack):
    return outcomes.of(attack).set_index("index")


def test_what_is_kept_of_an_image_is_the_break_or_the_nearest_miss(net, data):
    """Each search alone is the oracle: same noise, same start, whatever went before."""
    whole = rows_of(score(net, data, [short()], EPS), "aa")
    parts = [rows_of(score(net, data, [alone(s)], EPS), s.family) for s in SEARCHES]
    clean = rows_of(score(net, data, "clean", EPS), "clean")
    standing = clean["correct"].copy()
    assert (whole["stage"].isna() == (whole["correct"] | ~standing)).all()
    expected_margin = clean["margin"].copy()
    expected_steps = pd.Series(0, index=clean.index)
    for search, part in zip(SEARCHES, parts, strict=True):
        broke = standing & ~part["correct"]
        assert (whole["stage"].str.split(">").str[0] == search.family).fillna(False).eq(broke).all()
        expected_margin[standing] = np.minimum(expected_margin, part["margin"])[standing]
        expected_margin[broke] = part["margin"][broke]
        expected_steps[standing] += part["steps"][standing]
        standing &= part["correct"]
    np.testing.assert_allclose(whole["margin"], expected_margin, atol=1e-6)
    np.testing.assert_array_equal(whole["steps"], expected_steps)
    assert 0 < standing.sum() < len(standing)


def test_saved_images_are_those_of_the_rows(net, data, tmp_path, small_units):
    outcomes = score(net, data, [short()], EPS, out=tmp_path, save_adv=True)
    saved = np.load(tmp_path / "adversarial" / "aa.npz")
    rows = outcomes.of("aa")
    np.testing.assert_array_equal(saved["index"], rows["index"])
    np.testing.assert_array_equal(saved["prediction"], rows["adv_pred"])
    with torch.no_grad():
        logits = net(torch.from_numpy(saved["images"]).double())
    labels = torch.tensor(rows["label"].tolist()).unsqueeze(1)
    margin = logits.gather(1, labels) - logits.scatter(1, labels, -torch.inf).amax(1, keepdim=True)
    right = (rows["clean_pred"] == rows["label"]).to_numpy()
    np.testing.assert_allclose(margin.squeeze(1).numpy()[right], rows["margin"][right], atol=1e-5)
    clean = data.images_NCHW / 255
    moved = np.abs(saved["images"] - clean).reshape(len(data), -1).max(1)
    np.testing.assert_allclose(moved, rows["linf"], atol=1e-6)


class Finished(StopAfter):
    """Counts, and remembers what was said to be left."""

    def __init__(self) -> None:
        super().__init__(0)
        self.said: list[float] = []

    def advance(self, text, cost, left):
        self.said.append(left)


def test_stopped_in_any_stage_it_continues_to_the_same_end(data, tmp_path, small_units):
    """In float32, where another batch would show in the last bit."""
    net = TinyNet(num_classes=10).eval()
    asked = {"threat": EPS, "save_adv": True, "batch_size": 16}
    attacks = [short(), short_audited(8)]
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    counted = Finished()
    score(net, data, attacks, **asked, out=whole, reporter=counted)
    assert len(counted.said) > 20
    assert counted.said[-1] == pytest.approx(0)
    for before, after in pairwise((0, 1, 2, 9, 12, 15, 18, 20)):
        with pytest.raises(Killed):
            score(net, data, attacks, **asked, out=folder, reporter=StopAfter(after - before))
    rest = Finished()
    score(net, data, attacks, **asked, out=folder, reporter=rest)
    assert len(rest.said) == len(counted.said) - 20
    assert (folder / "outcomes.parquet").read_bytes() == (whole / "outcomes.parquet").read_bytes()
    for attack in ("aa", "aa-audited"):
        ours = np.load(folder / "adversarial" / f"{attack}.npz")
        theirs = np.load(whole / "adversarial" / f"{attack}.npz")
        for key in theirs.files:
            np.testing.assert_array_equal(ours[key], theirs[key])


def test_an_audit_sees_only_its_sample_and_says_what_is_open(net, data):
    outcomes = score(net, data, [short(), short_audited(12)], EPS)
    whole, audited = rows_of(outcomes, "aa"), rows_of(outcomes, "aa-audited")
    sample = outcomes.manifest["audits"]["aa-audited"]
    first_two = {"apgd-ce", "apgd-t"}
    fell_before = whole["stage"].str.split(">").str[0].isin(first_two)
    survivors = set(whole.index[~fell_before & (whole["clean_pred"] == whole["label"])])
    assert set(sample) < survivors
    assert len(sample) >= 12
    pd.testing.assert_frame_equal(
        audited.loc[sample].drop(columns="attack"), whole.loc[sample].drop(columns="attack")
    )
    others = sorted(survivors - set(sample))
    assert audited.loc[others, "correct"].all()
    steps = sum(alone(search).attacks[1].steps for search in SEARCHES[:2])
    assert (audited.loc[others, "steps"] == steps).all()

    card = scorecard(outcomes)
    assert card.attacks["aa"].audit is None
    bound = card.attacks["aa-audited"].audit.overall
    assert (bound.survivors, bound.sampled) == (len(survivors), len(sample))
    assert bound.lower < card.attacks["aa"].average <= bound.accuracy
    assert card.attacks["aa-audited"].floor95 <= card.attacks["aa"].floor95 + 1e-9
    shown = view([Run("tiny", card, outcomes.manifest)]).runs[0]
    assert shown.tables["audits"][0].rows[0][1].value == len(survivors)
    # The three sentences name the strongest attack, and an audited one does not hide that.
    alone_run = score(net, data, [short_audited(12)], EPS)
    sentence = view([Run("tiny", scorecard(alone_run), alone_run.manifest)]).runs[0].sentences[0]
    assert f"saw only {len(sample)} of {len(survivors)} survivors" in sentence


class Moody(nn.Module):
    """Leans toward the label's rivals in batches of odd size: a caricature of rounding."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_BCHW):
        logits_BK = self.net(x_BCHW)
        return logits_BK + (len(x_BCHW) % 2) * 0.02 * torch.arange(logits_BK.shape[1])


@pytest.mark.parametrize("unit", [1, 7, 16])
def test_verdicts_and_stages_agree_whatever_the_batch_does(data, monkeypatch, unit):
    monkeypatch.setattr("ferd_eval.evaluation.run_manifest.search_unit", lambda *_: unit)
    rows = score(Moody(TinyNet(num_classes=10)), data.first(60), [short()], EPS).of("aa")
    wrong = rows["clean_pred"] != rows["label"]
    assert (~rows["correct"] == (wrong | rows["stage"].notna())).all()
    assert not (wrong & rows["stage"].notna()).any()
    assert (rows.loc[wrong, "adv_pred"] == rows.loc[wrong, "clean_pred"]).all()
    before_last = sum(alone(search).attacks[1].steps for search in SEARCHES[:-1])
    assert (rows.loc[rows["correct"], "steps"] > before_last).all(), "not seen by the last search"


@pytest.mark.parametrize("bias", [30.0, -30.0])
def test_all_robust_and_none_robust(data, bias):
    class Sure(nn.Module):
        """Right, or wrong, about every image by a wide margin; the images are told by a pixel."""

        def __init__(self):
            super().__init__()
            self.net = TinyNet(num_classes=10)
            self.labels = torch.from_numpy(data.labels_N)
            self.keys = torch.from_numpy(data.images_NCHW).float().flatten(1) / 255

        def forward(self, x_BCHW):
            nearest = torch.cdist(x_BCHW.flatten(1), self.keys).argmin(1)
            lead = nn.functional.one_hot(self.labels[nearest], 10) * bias
            return self.net(x_BCHW) + lead

    outcomes = score(Sure(), data.first(20), [short(), short_audited(5)], EPS)
    for attack in ("aa", "aa-audited"):
        assert outcomes.of(attack)["correct"].all() == (bias > 0)
        assert outcomes.of(attack)["stage"].isna().all()
    card = scorecard(outcomes)
    assert card.attacks["aa-audited"].average == (bias > 0)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_too_few_classes_for_the_targeted_loss_are_said(num_classes):
    outcomes = score(TinyNet(num_classes), tiny_data(8, num_classes), [short()], EPS)
    said = [w for w in outcomes.manifest["warnings"] if "not AutoAttack standard" in w]
    assert len(said) == (num_classes < 4)


def test_operations_are_those_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    for net, shape in ((TinyNet(), (1, 1, 8, 8)), (nn.Identity(), (1, 1, 8, 8))):
        x = torch.zeros(shape)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(x)
        assert operations(net, x) == counter.get_total_flops()


def test_units_shrink_with_the_network_and_never_exceed_what_is_handed_over():
    sizes = [search_unit(flops, 5000, "cpu", 512) for flops in (0, 1e6, 1e8, 1e9, 1e12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 512
    assert 1 < sizes[3] < 16
    assert sizes[-1] == 1
    assert search_unit(1e9, 5000, "cuda", 4096) > 1000


def test_the_forecast_says_what_to_type(monkeypatch):
    data = tiny_data(400)
    net = TinyNet()
    cpu = torch.device("cpu")
    plan = plan_attacks("paper", as_threats(EPS, data))
    fast = plan_attacks("fast", as_threats(EPS, data))
    assert not forecast([net], data, fast, cpu).is_worth_saying
    monkeypatch.setattr("ferd_eval.evaluation.cost.eta._WORTH_SAYING", 0.0)
    assert forecast([net], data, fast, cpu).is_worth_saying
    assert "at most" not in forecast([net], data, fast, cpu).sentence
    said = forecast([net], data, plan, cpu).sentence
    assert re.match(
        r"This will take about \d+ \w+ at most here, \d+ \w+ if no image withstands. "
        "Quicker: --attacks fast",
        said,
    )
    assert re.search(r"--attacks clean,fgsm,pgd,cw,aa-audited \(about \d+ \w+ at most\)", said)
    assert "--per-class" not in said, "there are no more than 100 images a class"
    assert "--per-class 100" in forecast([net], tiny_data(800), plan, cpu).sentence
    own = plan_attacks(["aa", "aa-audited", Mine()], as_threats(EPS, data))
    assert forecast([net], data, own, cpu).sentence.count("--attacks") == 1, (
        "nothing is offered twice"
    )
    assert "aa-audited" not in forecast([net], data, own, cpu).sentence


class Mine(Attack):
    family, steps = "mine", 1

    def perturb(self, problem):
        return problem.x_BCHW


class Tight(nn.Module):
    """Has room for eight images."""

    def __init__(self):
        super().__init__()
        self.net = TinyNet()

    def forward(self, x_BCHW):
        if len(x_BCHW) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return self.net(x_BCHW)


def test_a_forecast_that_does_not_fit_is_left_out():
    data = tiny_data(40)
    plan = plan_attacks("paper", as_threats(EPS, data))
    assert forecast([Tight()], data, plan, torch.device("cpu")) is None
    assert forecast([Tight()], data, plan, torch.device("cpu"), batch_size=8)


@pytest.mark.parametrize("lost", ["all", "label"])
@pytest.mark.parametrize("shift", range(4))
def test_images_whose_logits_are_lost_have_fallen_whatever_their_class(lost, shift):
    """NaN where an image has moved far: argmax would pick the NaN, or class 0."""
    net, data = TinyNet(), tiny_data(n=60)
    labels = torch.from_numpy(data.labels_N)
    keys = torch.from_numpy(data.images_NCHW).float().flatten(1) / 255

    class Fragile(nn.Module):
        def forward(self, x_BCHW):
            x_BP = x_BCHW.flatten(1)
            exact = "donot_use_mm_for_euclid_dist"
            distance, nearest = torch.cdist(x_BP, keys, compute_mode=exact).min(1)
            logits_BK = net(x_BCHW) + 50 * nn.functional.one_hot(labels[nearest], 4)
            gone = (distance > 1e-3).unsqueeze(1)
            if lost == "label":
                gone = gone & nn.functional.one_hot(labels[nearest], 4).bool()
            return torch.where(gone, torch.nan, logits_BK).roll(shift, 1)

    rolled = replace(data, labels_N=(data.labels_N + shift) % 4)
    rows = score(Fragile(), rolled, [short()], EPS, fold_batchnorm=False).of("aa")
    assert not rows["correct"].any()
    assert (rows["stage"].str.split(">").str[0] == "apgd-ce").all()


def test_survivors_of_several_targets_keep_the_nearest_end(net, data):
    search = APGDT(iterations=3)
    rows = rows_of(score(net, data, [alone(search)], EPS), "apgd-t")
    one_by_one = []

    for place in range(9):

        def only(self, problem, place=place):
            others = problem.clean_logits_BK.scatter(1, problem.labels_B.unsqueeze(1), -torch.inf)
            order = others.argsort(dim=1, descending=True, stable=True)
            return order[:, place : place + 1]

        single = type("One", (SearchAttack,), {"_targets": only})(search)
        one_by_one.append(rows_of(score(net, data, [Cascade("one", (single,))], EPS), "one"))
    standing = rows["correct"]
    ends = pd.concat([each["margin"] for each in one_by_one], axis=1).min(axis=1)
    np.testing.assert_allclose(rows["margin"][standing], ends[standing], atol=1e-6)
    assert (rows["linf"][standing] > 0).any()


def test_an_audited_attack_is_no_part_of_the_worst_case_and_widens_its_intervals(net, data):
    outcomes = score(net, data, ["pgd", short_audited(12)], EPS, steps=2)
    folded = worst_case(outcomes)
    assert folded.manifest["attacks"][WORST_CASE]["attacks"] == ["clean", "pgd"]
    card = scorecard(outcomes)
    scores = card.attacks["aa-audited"]
    low_K, high_K = wilson(
        [round(each.accuracy * each.n) for each in scores.per_class],
        [each.n for each in scores.per_class],
    )
    for each, bound, low, high in zip(
        scores.per_class, scores.audit.per_class, low_K, high_K, strict=True
    ):
        assert each.wilson95[1] == pytest.approx(high)
        assert each.wilson95[0] == pytest.approx(min(low, bound.low95))
        assert bound.low95 <= bound.floor95 <= bound.accuracy
    assert any(
        each.wilson95[0] < low - 1e-9 for each, low in zip(scores.per_class, low_K, strict=True)
    )


class Summing(nn.Module):
    """Its gradient is one number for all pixels, an expanded tensor."""

    def forward(self, x_BCHW):
        total_B = x_BCHW.sum((1, 2, 3))
        return torch.stack([total_B, 30 - total_B, 0.5 * total_B, 0 * total_B], dim=1)


def test_gradients_that_share_memory_are_walked_along():
    rows = score(Summing(), tiny_data(), ["pgd", short()], EPS, steps=2)
    assert rows.of("pgd")["linf"].max() == pytest.approx(float(EPS), rel=1e-3)


class Restless(nn.Module):
    """Draws from torch's generator in every pass."""

    def __init__(self):
        super().__init__()
        self.net = TinyNet(num_classes=10)

    def forward(self, x_BCHW):
        logits_BK = self.net(x_BCHW)
        return logits_BK + 0.05 * torch.randn(logits_BK.shape)


def test_a_randomised_network_repeats_itself_too(data, tmp_path, small_units):
    whole = score(Restless(), data, [short()], EPS, batch_size=16)
    for before, after in pairwise((0, 1, 9, 15)):
        torch.rand(3)
        with pytest.raises(Killed):
            score(Restless(), data, [short()], EPS, batch_size=16, out=tmp_path,
                  reporter=StopAfter(after - before))  # fmt: skip
    again = score(Restless(), data, [short()], EPS, batch_size=16, out=tmp_path)
    pd.testing.assert_frame_equal(again.table, whole.table)
