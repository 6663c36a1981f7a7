"""Cascades through the runner: stages, audits, what is kept of an image, stopping anywhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ferd_eval import score, scorecard
from ferd_eval.attacks import Cascade, SearchAttack, alone, plan_attacks
from ferd_eval.attacks.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack import cascade
from ferd_eval.attacks.fab import FABT
from ferd_eval.attacks.square import Square
from ferd_eval.cli.forecast import forecast
from ferd_eval.effort import operations, search_unit
from ferd_eval.report.view import Run, view
from ferd_eval.runner import as_threats
from tests.conftest import TinyNet, tiny_data

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
    monkeypatch.setattr("ferd_eval.job.search_unit", lambda *_: 16)


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


class Killed(Exception):  # noqa: N818
    """Stands for a kill."""


class StopAfter:
    def __init__(self, units: int) -> None:
        self.left = units

    def start(self, title): ...
    def note(self, text): ...
    def skip(self, cost, left): ...
    def advance(self, text, cost, left):
        self.left -= 1
        if self.left == 0:
            raise Killed


class Finished(StopAfter):
    """Counts, and remembers what was said to be left."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.said: list[float] = []

    def advance(self, text, cost, left):
        self.said.append(left)


@pytest.mark.parametrize("units", [1, 2, 9, 12, 15, 18, 20])
def test_stopped_in_any_stage_it_continues_to_the_same_end(
    data, tmp_path, small_units, units, request
):
    """In float32, where another batch would show in the last bit."""
    net = TinyNet(num_classes=10).eval()
    asked = {"threat": EPS, "save_adv": True, "batch_size": 16}
    attacks = [short(), short_audited(8)]
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    counted = Finished()
    score(net, data, attacks, **asked, out=whole, watcher=counted)
    assert len(counted.said) > 20
    assert counted.said[-1] == pytest.approx(0)
    with pytest.raises(Killed):
        score(net, data, attacks, **asked, out=folder, watcher=StopAfter(units))
    score(net, data, attacks, **asked, out=folder)
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
    assert shown.audit_tables[0].rows[0][1].value == len(survivors)
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
    monkeypatch.setattr("ferd_eval.job.search_unit", lambda *_: unit)
    rows = score(Moody(TinyNet(num_classes=10)), data, [short()], EPS).of("aa")
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
    sizes = [search_unit(flops, "cpu", 512) for flops in (0, 1e6, 1e8, 1e9, 1e12)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 512
    assert sizes[-1] == 8
    assert search_unit(1e9, "cuda", 4096) == 4096


def test_the_forecast_says_what_to_type(monkeypatch):
    data = tiny_data(400)
    net = TinyNet()
    cpu = torch.device("cpu")
    plan = plan_attacks("paper", as_threats(EPS, data))
    assert forecast([net], data, plan_attacks("fast", as_threats(EPS, data)), cpu) is None
    monkeypatch.setattr("ferd_eval.cli.forecast._WORTH_SAYING", 0.0)
    said = forecast([net], data, plan, cpu)
    assert said.startswith("This will take at most ")
    assert "--attacks fast (about " in said
    assert "--attacks clean,fgsm,pgd,cw,aa-audited (at most " in said
    assert "--per-class" not in said, "there are no more than 100 images a class"
    assert "--per-class 100" in forecast([net], tiny_data(800), plan, cpu)
    assert forecast([], data, plan, cpu) is None or "at most 0 s" in forecast([], data, plan, cpu)
