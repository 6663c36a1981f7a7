"""Our walks beside torchattacks' on the same network and the same start."""

import dataclasses
import math
from importlib import metadata

import pytest
import torch

from ferd_eval import score
from ferd_eval.attacks import (
    CW,
    FGSM,
    PGD,
    Cascade,
    Passes,
    PlannedAttack,
    SearchAttack,
    TargetedPGD,
    Threat,
    plan_attacks,
)
from ferd_eval.attacks.autoattack.apgd import checkpoints
from ferd_eval.attacks.autoattack.ensemble import as_in_torchattacks
from ferd_eval.attacks.autoattack.square import Square, window_sides
from ferd_eval.errors import UserError
from tests.conftest import TinyNet, tiny_data
from tests.eval.attacks.autoattack.test_ensemble import frozen_net
from tests.eval.attacks.test_sealed import make_batch

torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
from ferd_eval.attacks.adapters import torchattacks as adapter  # noqa: E402
from ferd_eval.attacks.adapters.torchattacks import through_torchattacks  # noqa: E402

EPS = "0.06"


def batch_and_net(dtype=torch.float32):
    net = TinyNet(num_classes=10, channels=3).eval().to(dtype)
    data = tiny_data(n=200, num_classes=10, channels=3)
    return make_batch(net, data, dtype), net


def test_fgsm_gives_the_same_images_and_predictions():
    batch, net = batch_and_net()
    theirs = torchattacks.FGSM(net, eps=float(Threat(EPS).eps))(batch.x_BCHW, batch.labels_B)
    ours = FGSM()(net, batch, Threat(EPS), seed=0, passes=Passes())
    torch.testing.assert_close(ours.adv_RCHW, theirs, atol=1e-6, rtol=0)
    assert torch.equal(ours.adv_pred_R, net(theirs).argmax(1))
    assert (ours.adv_pred_R != batch.labels_B).any()


def test_pgd_from_the_same_start_gives_the_same_predictions(monkeypatch):
    batch, net = batch_and_net(torch.float64)
    threat = Threat(EPS)
    ours = PGD()(net, batch, threat, seed=5, passes=Passes())

    from ferd_eval.attacks import KeyedRng

    noise = KeyedRng(5, "pgd", batch.indices_B).uniform((3, 8, 8), torch.float64)
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda self, low, high: self.copy_(low + (high - low) * noise)
    )
    attack = torchattacks.PGD(
        net, eps=threat.radius, alpha=threat.radius / 4, steps=20, random_start=True
    )
    theirs = attack(batch.x_BCHW, batch.labels_B)
    assert torch.equal(ours.adv_pred_R, net(theirs).argmax(1))
    torch.testing.assert_close(ours.adv_RCHW, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("attack", [PGD(), CW(), CW(kappa=0.05), TargetedPGD()])
def test_without_random_start_the_engine_ends_at_the_same_images(attack, monkeypatch):
    monkeypatch.setattr(type(attack), "random_start", False)
    batch, net = batch_and_net(torch.float64)
    plan = (PlannedAttack("it", attack, Threat(EPS)),)
    (engine,) = through_torchattacks(plan, 10)
    ours, theirs = (
        planned.attack(net, batch, planned.threat, seed=0, passes=Passes())
        for planned in (*plan, engine)
    )
    torch.testing.assert_close(ours.adv_RCHW, theirs.adv_RCHW, atol=1e-9, rtol=0)
    assert (ours.adv_RCHW != batch.x_BCHW.repeat_interleave(len(ours.rows_R) // 200, 0)).any()
    assert engine.describe() == {**plan[0].describe(), "engine": "torchattacks"}


def test_with_random_start_the_engine_breaks_about_the_same_images():
    batch, net = batch_and_net()
    plan = (PlannedAttack("pgd", PGD(), Threat("0.01")),)
    (engine,) = through_torchattacks(plan, 10)
    ours, theirs = (
        planned.attack(net, batch, planned.threat, seed=0, passes=Passes()).adv_pred_R
        for planned in (*plan, engine)
    )
    broken = (ours != batch.labels_B, theirs != batch.labels_B)
    assert 0.1 < broken[0].float().mean() < 0.9
    assert (broken[0] != broken[1]).float().mean() <= 0.03


def test_clean_stays_ours_and_presets_keep_their_ids():
    plan = plan_attacks("fast,pgd:rslad", [Threat(EPS)])
    through = through_torchattacks(plan, 10)
    assert [planned.id for planned in through] == [planned.id for planned in plan]
    assert dataclasses.asdict(through[0]) == dataclasses.asdict(plan[0])


# Its AutoAttack


def parts_of_theirs(num_classes=10):
    whole = torchattacks.AutoAttack(TinyNet().eval(), eps=0.1, n_classes=num_classes, seed=0)
    return {type(part).__name__: part for part in whole._autoattack.attacks}


def through(attack="aa-torchattacks", eps="0.012", num_classes=10):
    plan = plan_attacks([attack], [Threat(eps)])
    return plan, through_torchattacks(plan, num_classes)


@pytest.fixture
def few_queries(monkeypatch):
    """Let Square look 300 times rather than 5000, in our preset and in their package."""

    class Short(torchattacks.AutoAttack):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self._autoattack.attacks[-1].n_queries = 300

    preset = as_in_torchattacks()
    square = dataclasses.replace(preset.stages[-1], search=Square(queries=300, rescaled=True))
    short = dataclasses.replace(preset, stages=(*preset.stages[:-1], square))
    monkeypatch.setattr(torchattacks, "AutoAttack", Short)
    monkeypatch.setattr(adapter, "as_in_torchattacks", lambda: short)
    return short


def rows_of(net, data, plan, **options):
    return score(net, data, attack_plan=plan, **options).of(plan[1].id).reset_index(drop=True)


@pytest.mark.parametrize("num_classes", [5, 10, 100])
def test_our_preset_has_the_constants_of_theirs(num_classes):
    theirs = parts_of_theirs(num_classes)
    assert list(theirs) == ["APGD", "APGDT", "FAB", "Square"]
    assert {(part.norm, part.n_restarts) for part in theirs.values()} == {("Linf", 1)}
    ce, targeted, fab, square = as_in_torchattacks().stages
    for ours, part in ((ce, theirs["APGD"]), (targeted, theirs["APGDT"])):
        assert (ours.search.iterations, 0.75, 1) == (part.steps, part.thr_decr, part.eot_iter)
        assert ours.search.fixed_constants()["rho"] == part.thr_decr
    assert theirs["APGD"].loss == "ce"
    assert theirs["FAB"].multi_targeted
    for name in ("alpha_max", "eta", "beta"):
        assert getattr(fab.search, name) == getattr(theirs["FAB"], name)
    assert fab.search.iterations == theirs["FAB"].steps
    for ours, part in ((targeted, theirs["APGDT"]), (fab, theirs["FAB"])):
        assert ours.targets_among(num_classes) == part.n_target_classes
    part = theirs["Square"]
    assert (square.search.queries, square.search.p_init) == (part.n_queries, part.p_init)
    assert part.loss == "margin"
    shares = [part.p_selection(query) for query in range(part.n_queries)]
    sides = [max(round(math.sqrt(share * 32 * 32)), 1) for share in shares]
    assert sides == window_sides(part.n_queries, part.p_init, 32, 32, rescaled=True)


def test_ten_iterations_end_a_window_after_the_second_and_then_each():
    assert checkpoints(10) == [2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(("num_classes", "queries"), [(5, 300), (10, 5000), (30, 300)])
def test_on_their_stream_our_preset_breaks_the_same_images(num_classes, queries, request):
    """The same random numbers, and no rounding that depends on the batch."""
    net = frozen_net(num_classes=num_classes, channels=3)
    data = tiny_data(60, num_classes, 3)
    preset = request.getfixturevalue("few_queries") if queries == 300 else as_in_torchattacks()
    assert preset.stages[-1].search.queries == queries
    stages = tuple(dataclasses.replace(stage, reference_stream=True) for stage in preset.stages)
    plan, engine = through(preset, num_classes=num_classes)
    ours = dataclasses.replace(plan[1], attack=dataclasses.replace(preset, stages=stages))
    mine = rows_of(net, data, (plan[0], ours), batch_size=25)
    theirs = rows_of(net, data, engine, batch_size=25)
    names = mine["stage"].fillna("").str.split(">").str[0]
    assert names.tolist() == theirs["stage"].fillna("").tolist()
    assert mine["correct"].tolist() == theirs["correct"].tolist()
    assert {"apgd-ce", "apgd-t"} <= set(names)
    assert 0 < mine["correct"].sum() < (mine["clean_pred"] == mine["label"]).sum()


def test_our_preset_is_as_strong_as_theirs(capsys):
    """Each with its own random numbers."""
    net, data = TinyNet(num_classes=10, channels=3).eval(), tiny_data(150, 10, 3)
    mine, theirs = (rows_of(net, data, plan) for plan in through(eps="0.01"))
    flips = int((mine["correct"] != theirs["correct"]).sum())
    with capsys.disabled():
        robust = (int(rows["correct"].sum()) for rows in (mine, theirs))
        print(f"\naa-torchattacks: {flips} flips, {' and '.join(map(str, robust))} of 150")
    assert flips <= 3
    assert 30 < theirs["correct"].sum() < 120


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_networks_of_either_layout(stage, layout, few_queries):
    net = TinyNet(num_classes=10, channels=3).eval().to(memory_format=layout)
    batch = make_batch(net, tiny_data(20, 10, 3))
    x_BCHW = batch.x_BCHW.contiguous(memory_format=layout)
    batch = dataclasses.replace(batch, x_BCHW=x_BCHW)
    if stage == 2 and layout == torch.channels_last:  # the failure this guards against
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            torchattacks.FAB(net, multi_targeted=True)(x_BCHW, batch.labels_B)
    attack = through(few_queries)[1][1].attack.stages[stage]
    passes = Passes()
    verdicts = attack(net, batch, Threat("0.012"), seed=0, passes=passes)
    wrong_B = batch.clean_logits_BK.argmax(1) != batch.labels_B
    assert torch.equal(verdicts.adv_RCHW[wrong_B], x_BCHW[wrong_B])
    assert 0 < sum(name is not None for name in verdicts.stages) < (~wrong_B).sum()
    assert (passes.backward > 0) == (attack.family != "square")


def test_a_weaker_attack_does_not_pass_for_autoattack():
    for name in ("aa", "aa-audited", "apgd-ce", "apgd-t", "fab-t", "square"):
        with pytest.raises(UserError, match=r"no .*weaker.*aa-torchattacks.*--engine autoattack"):
            through(name)
    with pytest.raises(UserError, match=r"aa-torchattacks needs four classes.*there are 3"):
        through(num_classes=3)


def test_its_autoattack_is_recorded_as_its_own():
    plan, engine = through()
    assert isinstance(engine[1].attack, Cascade)
    assert all(isinstance(stage, SearchAttack) for stage in plan[1].attack.stages)
    for constants in engine[1].describe()["stages"].values():
        assert constants["engine"] == constants["package"] == "torchattacks"
        assert constants["package_version"] == metadata.version("torchattacks")


def test_what_it_prints_reaches_nobody(capsys, few_queries):
    """For a network without parameters it prints that it knows no device."""

    class Bare(torch.nn.Module):
        def forward(self, x_BCHW):
            return x_BCHW.flatten(1)[:, :10] * 3

    data = tiny_data(20, 10, 3)
    for attack in ("pgd", few_queries):
        plan, engine = through(attack)
        capsys.readouterr()
        theirs = rows_of(Bare(), data, engine)
        assert capsys.readouterr() == ("", "")
        assert theirs["correct"].tolist() == rows_of(Bare(), data, plan)["correct"].tolist()
