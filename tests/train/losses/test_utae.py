"""UTAE against equation 10 written out, both readings of whose prediction is raised."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from ferd_eval.attacks import Batch, Passes, Threat
from ferd_train.losses.ferd import UTAE
from ferd_train.losses.kl_pgd import KLPGD
from tests.conftest import TinyNet

EPS = Threat("8/255")


def images(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def batch_of(teacher: nn.Module, x: torch.Tensor) -> Batch:
    with torch.no_grad():
        logits = teacher(x)
    return Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)), logits)


def reference_bracket(clean: torch.Tensor, logits: torch.Tensor, gamma: float) -> torch.Tensor:
    """KL(p(x_F) ‖ p(x)) − γ·KL(U ‖ p(x)) of each image, summed term by term."""
    p, q = clean.exp() / clean.exp().sum(1, True), logits.exp() / logits.exp().sum(1, True)
    num_classes = logits.shape[1]
    total = 0
    for k in range(num_classes):
        u = 1 / num_classes
        total = total + p[:, k] * torch.log(p[:, k] / q[:, k])
        total = total - gamma * u * torch.log(u / q[:, k])
    return total


def reference_walk(attacked, clean, x, start, gamma, steps=10):
    eps, step, adv = 8 / 255, 2 / 255, start
    for _ in range(steps):
        leaf = adv.clone().requires_grad_()
        value = reference_bracket(clean, attacked(leaf), gamma).sum()
        (gradient,) = torch.autograd.grad(value, leaf)
        adv = adv + step * gradient.sign()
        adv = torch.min(torch.max(adv, x - eps), x + eps).clamp(0, 1)
    return adv


class Recorder(UTAE):
    """Keeps where it started."""

    def start(self, problem):
        begun = super().start(problem)
        starts.append(begun)
        return begun


starts: list[torch.Tensor] = []


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("reading", ["paper", "release"])
def test_walk_is_equation_10(num_classes, reading):
    teacher = TinyNet(num_classes, seed=0).double().eval()
    student = TinyNet(num_classes, seed=1).double().eval()
    attacked, gamma = (teacher, 0.5) if reading == "paper" else (student, 0.0)
    x = images()
    batch = batch_of(teacher, x)
    starts.clear()
    ours = Recorder(gamma=gamma).examples(attacked, batch, EPS, seed=0, passes=Passes())
    assert 0 < (starts[0] - x).abs().max() < 0.006
    expected = reference_walk(attacked, batch.clean_logits_BK, x, starts[0], gamma)
    torch.testing.assert_close(ours, expected)


def test_defaults_are_the_papers():
    utae = UTAE()
    assert (utae.steps, utae.step_size, utae.gamma) == (10, Fraction(2, 255), 0.5)
    assert utae.constants(EPS)["gamma"] == 0.5


def test_without_gamma_it_is_kl_pgd():
    """The ablation no-utae: the same walk from the same start."""

    class SameNoise(UTAE):
        family = KLPGD.family

    teacher, x = TinyNet().double().eval(), images()
    arguments = (teacher, batch_of(teacher, x), EPS)
    plain = KLPGD(10, Fraction(2, 255)).examples(*arguments, seed=0, passes=Passes())
    ours = SameNoise(gamma=0.0).examples(*arguments, seed=0, passes=Passes())
    assert torch.equal(ours, plain)
    uniform = SameNoise(gamma=0.5).examples(*arguments, seed=0, passes=Passes())
    assert not torch.equal(uniform, plain)


def test_gamma_makes_predictions_more_even():
    teacher, x = TinyNet(10).double().eval(), images(64)
    batch = batch_of(teacher, x)

    def unevenness(gamma: float) -> float:
        adv = UTAE(gamma=gamma).examples(teacher, batch, EPS, seed=0, passes=Passes())
        return -teacher(adv).log_softmax(1).mean().item()

    assert unevenness(2.0) < unevenness(0.5) < unevenness(0.0)


@pytest.mark.parametrize("attacked", ["teacher", "student"])
def test_networks_stay_as_they_are_and_the_seed_decides(attacked):
    teacher, student = TinyNet(seed=0).double().train(), TinyNet(seed=1).double().train()
    x = images()
    batch = batch_of(TinyNet(seed=0).double().eval(), x)
    network = {"teacher": teacher, "student": student}[attacked]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one, same, other = (
        UTAE(steps=1).examples(network, batch, EPS, seed=seed, passes=Passes())
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not one.requires_grad
    assert all(module.training for module in network.modules())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
