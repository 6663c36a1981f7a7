"""RSLAD's loss and attack against loops written from its equations."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from ferd_eval.attacks import Batch, KeyedRng, Threat, frozen
from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.losses.rslad import RSLADRecipe
from tests.conftest import TinyNet

B, K = 5, 3
EPS, STEP = 0.1, 0.04


@pytest.fixture
def networks():
    teacher, student = (TinyNet(num_classes=K, seed=seed).double() for seed in (0, 1))
    return teacher.eval().requires_grad_(False), student.eval()


@pytest.fixture
def batch(networks):
    x = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        return Batch(x, torch.arange(B) % K, torch.arange(B), networks[0](x))


def divergence(p_logits: torch.Tensor, q_logits: torch.Tensor) -> torch.Tensor:
    """Sum over a batch of Σ p log(p/q), from exponentials."""
    p, q = (z.exp() / z.exp().sum(1, keepdim=True) for z in (p_logits, q_logits))
    return (p * (p / q).log()).sum()


@pytest.mark.parametrize("weights", [(1 / 6, 5 / 6), (5 / 6, 1 / 6)])
def test_the_loss_is_the_weighted_batch_mean_of_both_terms(networks, batch, weights):
    _, student = networks
    adv = (batch.x_BCHW + 0.05).clamp(0, 1)
    recipe = RSLADRecipe(clean_weight=weights[0], adversarial_weight=weights[1])
    ours = recipe.build(K)(student, batch, adv)
    pairs = zip(weights, (batch.x_BCHW, adv), strict=True)
    expected = sum(w * divergence(batch.clean_logits_BK, student(x)) / B for w, x in pairs)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_attack_moves_the_student_away_from_the_teachers_clean_prediction(networks, batch):
    teacher, student = networks
    recipe = RSLADRecipe(attack_steps=3, step_size=Fraction(str(STEP)))
    with frozen(student):
        ours = recipe.build(K).examples(teacher, student, batch, Threat(Fraction("0.1")), seed=7)
    noise = KeyedRng(7, "kl-pgd", batch.indices_B)
    start = noise.normal((1, 8, 8), torch.float64)
    x = (batch.x_BCHW + 0.001 * start).clamp(0, 1)
    for _ in range(3):
        x.requires_grad_()
        with frozen(student):
            value = divergence(batch.clean_logits_BK, student(x))
        (gradient,) = torch.autograd.grad(value, x)
        with torch.no_grad():
            moved = x + STEP * gradient.sign()
            x = torch.clamp(moved, batch.x_BCHW - EPS, batch.x_BCHW + EPS).clamp(0, 1).detach()
    assert torch.allclose(ours, x, atol=1e-9)


def test_it_is_ferds_loss_without_the_uniform_target(networks, batch):
    """The authors' release of FERD trains its students so."""
    teacher, student = networks
    rslad = RSLADRecipe(clean_weight=5 / 6, adversarial_weight=1 / 6).build(K)
    ferd = FERDLossRecipe(gamma=0.0, clean_weight=5 / 6, adversarial_weight=1 / 6).build(K)
    threat = Threat(Fraction(8, 255))
    with frozen(student):
        moved = [loss.examples(teacher, student, batch, threat, 1) for loss in (rslad, ferd)]
    assert (moved[0] - batch.x_BCHW).abs().max() > 0.02
    assert rslad(student, batch, moved[0]).item() == ferd(student, batch, moved[0]).item()
