"""Our walks beside torchattacks' on the same network and the same start."""

import dataclasses

import pytest
import torch

from ferd_eval.attacks import (
    CW,
    FGSM,
    PGD,
    Passes,
    PlannedAttack,
    TargetedPGD,
    Threat,
    plan_attacks,
)
from tests.conftest import TinyNet, tiny_data
from tests.eval.attacks.test_sealed import make_batch

torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
from ferd_eval.attacks.torchattacks_engine import through_torchattacks  # noqa: E402

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

    from ferd_eval.attacks import Noise

    noise = Noise(5, "pgd", batch.indices_B).uniform((3, 8, 8), torch.float64)
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
    (engine,) = through_torchattacks(plan)
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
    (engine,) = through_torchattacks(plan)
    ours, theirs = (
        planned.attack(net, batch, planned.threat, seed=0, passes=Passes()).adv_pred_R
        for planned in (*plan, engine)
    )
    broken = (ours != batch.labels_B, theirs != batch.labels_B)
    assert 0.1 < broken[0].float().mean() < 0.9
    assert (broken[0] != broken[1]).float().mean() <= 0.03


def test_clean_stays_ours_and_presets_keep_their_ids():
    plan = plan_attacks("fast,pgd:rslad", [Threat(EPS)])
    through = through_torchattacks(plan)
    assert [planned.id for planned in through] == [planned.id for planned in plan]
    assert dataclasses.asdict(through[0]) == dataclasses.asdict(plan[0])
