"""IGDM's loss against a loop written from its formula; what its third term does."""

from __future__ import annotations

from copy import deepcopy
from fractions import Fraction

import pytest
import torch

from ferd_eval.attacks import Batch, Threat, frozen
from ferd_eval.errors import UserError
from ferd_train.losses.igdm import IGDMRecipe
from ferd_train.losses.rslad import RSLADRecipe
from tests.conftest import TinyNet
from tests.train.student_runs import TINY

B, K = 5, 3
THREAT = Threat(Fraction(1, 10))
WALK = {"attack_steps": 3, "step_size": Fraction(1, 25)}


@pytest.fixture
def networks():
    """The student is in train mode."""
    teacher, student = (TinyNet(num_classes=K, seed=seed).double() for seed in (0, 1))
    return teacher.eval().requires_grad_(False), student.train()


@pytest.fixture
def batch(networks):
    x = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Batch(x, torch.arange(B) % K, torch.arange(B), networks[0](x))


def made(recipe, networks, batch, epoch=(1, 1)):
    """Loss, gradient, examples and the student afterwards."""
    teacher, student = networks[0], deepcopy(networks[1])
    loss = recipe.build(K)
    loss.begin_epoch(*epoch)
    with frozen(student):
        adv = loss.examples(teacher, student, batch, THREAT, 7)
    value = loss(student, batch, adv)
    return value.item(), torch.autograd.grad(value, list(student.parameters())), adv, student


def divergence(p_logits, q_logits) -> float:
    """Σ p log(p/q) of one image, from exponentials."""
    p, q = (torch.exp(z) / torch.exp(z).sum() for z in (p_logits, q_logits))
    return float((p * (p / q).log()).sum())


@pytest.mark.parametrize("weights", [(0.25, 0.75, 2.0), (0.0, 0.5, 1.0), (0.5, 0.0, 1.0)])
@pytest.mark.parametrize("epoch", [(1, 4), (3, 4), (4, 4)])
def test_the_loss_is_the_formula(networks, batch, weights, epoch):
    clean_weight, adversarial_weight, gradient_weight = weights
    recipe = IGDMRecipe(
        clean_weight=clean_weight,
        adversarial_weight=adversarial_weight,
        gradient_weight=gradient_weight,
        **WALK,
    )
    ours, _, adv, used = made(recipe, networks, batch, epoch)
    assert (adv - batch.x_BCHW).abs().max() > 0.05
    teacher, student = networks
    delta = adv - batch.x_BCHW
    passes = [each for each in (0, 1, -1) if each or clean_weight]
    with torch.no_grad():
        answers = {sign: student(batch.x_BCHW + sign * delta) for sign in passes}
        plus, minus = (teacher(batch.x_BCHW + sign * delta) for sign in (1, -1))
    expected = 0.0
    for n in range(B):
        target = batch.clean_logits_BK[n]
        if clean_weight:
            expected += clean_weight * divergence(target, answers[0][n])
        expected += adversarial_weight * divergence(target, answers[1][n])
        third = divergence(plus[n] - minus[n], answers[1][n] - answers[-1][n])
        expected += gradient_weight * epoch[0] / epoch[1] * third
    assert ours == pytest.approx(expected / B, rel=1e-9)
    assert used.bn.num_batches_tracked == len(passes)
    assert torch.allclose(used.bn.running_mean, student.bn.running_mean, atol=1e-12)


def test_without_its_weight_it_is_rslad_to_the_bit(networks, batch):
    plain = made(RSLADRecipe(**WALK), networks, batch)
    off = made(IGDMRecipe(gradient_weight=0, **WALK), networks, batch)
    on = made(IGDMRecipe(**WALK), networks, batch)
    assert torch.equal(plain[2], off[2])
    assert torch.equal(plain[2], on[2])
    assert plain[0] == off[0] < on[0]
    assert all(torch.equal(a, b) for a, b in zip(plain[1], off[1], strict=True))
    moved = [(a - b).abs().max() for a, b in zip(plain[1], on[1], strict=True)]
    assert max(moved) > 1e-5


def test_a_student_with_the_teachers_gradient_has_nothing_more_to_learn(networks, batch):
    """Equal differences, not equal outputs: a constant shift of the logits costs nothing."""
    teacher = networks[0]
    student = deepcopy(teacher)  # in evaluation mode
    with torch.no_grad():
        student.linear.bias += torch.tensor([1.0, -2.0, 0.5])
    student.requires_grad_(True)
    with_third, without, *_ = (
        made(recipe, (teacher, student), batch)
        for recipe in (IGDMRecipe(gradient_weight=5, **WALK), RSLADRecipe(**WALK))
    )
    assert with_third[0] == pytest.approx(without[0], rel=1e-12)
    for ours, plain in zip(with_third[1], without[1], strict=True):
        assert torch.allclose(ours, plain, atol=1e-12)


def test_the_teachers_answer_is_of_the_same_examples(networks, batch):
    loss = IGDMRecipe(**WALK).build(K)
    with pytest.raises(AssertionError, match="examples come first"):
        loss(networks[1], batch, batch.x_BCHW)
    with frozen(networks[1]):
        adv = loss.examples(*networks, batch, THREAT, 7)
    with pytest.raises(AssertionError, match="other examples"):
        loss(networks[1], batch, adv.clone())


def test_a_change_to_it_keeps_attack_and_weights_of_rslad():
    plain = TINY.with_changes({"loss.name": "rslad", "loss.clean_weight": 0.3})
    changed = plain.with_changes({"loss.name": "igdm"}).loss
    assert isinstance(changed, IGDMRecipe)
    assert (changed.clean_weight, changed.attack_steps) == (0.3, plain.loss.pgd_steps)
    assert changed.gradient_weight == 1.0


def test_a_negative_weight_is_refused():
    with pytest.raises(UserError, match=r"^gradient_weight is -1; give 0 <= gradient_weight"):
        IGDMRecipe(gradient_weight=-1)
