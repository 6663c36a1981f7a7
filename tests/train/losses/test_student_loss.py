"""L_stu against equation 11 in loops; IKL against its double sum; what each switch does."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch

from ferd_eval.attacks import Batch
from ferd_eval.errors import UserError
from ferd_train.losses.divergence import improved_kl
from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.losses.two_terms import DIVERGENCES, TwoTerms
from tests.conftest import TinyNet

B = 12


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(B, 1, 8, 8, generator=generator, dtype=torch.float64)


def setting(num_classes: int = 10):
    """Student in train mode, clean images, adversarial ones, teacher's logits, labels."""
    with torch.no_grad():
        teacher = TinyNet(num_classes, seed=0).double().eval()(images(0))
    student = TinyNet(num_classes, seed=1).double().train()
    return student, images(0), images(1), teacher, torch.arange(B) % min(num_classes, 3)


def two(divergence="kl", clean=5 / 6, adversarial=1 / 6) -> FERDLossRecipe:
    return FERDLossRecipe(divergence=divergence, clean_weight=clean, adversarial_weight=adversarial)


def loss_of(terms: FERDLossRecipe, student, x, adv, teacher, labels) -> torch.Tensor:
    return TwoTerms(terms)(student, Batch(x, labels, torch.arange(B), teacher), adv)


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def reference(name: str, t: list, s: list, labels: list) -> float:
    """The batch mean of D, number by number."""
    p, q = [softmax(row) for row in t], [softmax(row) for row in s]
    total = 0.0
    for i in range(B):
        cross = -sum(a * math.log(b) for a, b in zip(p[i], q[i], strict=True))
        if name == "kl":
            total += cross + sum(a * math.log(a) for a in p[i])
            continue
        total += cross
        if name == "ikl":
            same = [row for row, y in zip(p, labels, strict=True) if y == labels[i]]
            w = [sum(column) / len(same) for column in zip(*same, strict=True)]
            total += 0.25 * sum(
                w[j] * w[k] * ((t[i][j] - t[i][k]) - (s[i][j] - s[i][k])) ** 2
                for j in range(len(w))
                for k in range(len(w))
            )
    return total / B


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_loss_is_equation_11(divergence, num_classes):
    student, x, adv, teacher, labels = setting(num_classes)
    ours = loss_of(two(divergence), deepcopy(student), x, adv, teacher, labels)
    parts = [
        reference(divergence, teacher.tolist(), student(images).tolist(), labels.tolist())
        for images in (x, adv)
    ]
    assert ours.item() == pytest.approx(5 / 6 * parts[0] + 1 / 6 * parts[1], rel=1e-10)


def test_two_passes_the_clean_one_first():
    """The running mean after two updates tells their order."""
    student, x, adv, teacher, labels = setting()
    other = deepcopy(student)
    loss_of(two(), student, x, adv, teacher, labels)
    other(x)
    other(adv)
    assert torch.equal(student.bn.running_mean, other.bn.running_mean)
    assert student.bn.num_batches_tracked == 2


def gradient(terms: FERDLossRecipe, student, *arguments) -> torch.Tensor:
    student = deepcopy(student)
    value = loss_of(terms, student, *arguments)
    assert value.ndim == 0
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(student.parameters()))])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_term_has_a_gradient_when_on_and_none_when_off(divergence):
    student, x, adv, teacher, labels = setting()
    rest = (teacher, labels)
    both = gradient(two(divergence), student, x, adv, *rest)
    clean = gradient(two(divergence, 5 / 6, 0.0), student, x, adv, *rest)
    robust = gradient(two(divergence, 0.0, 1 / 6), student, x, adv, *rest)
    assert clean.abs().max() > 1e-4
    assert robust.abs().max() > 1e-4
    torch.testing.assert_close(clean + robust, both)
    elsewhere = gradient(two(divergence, 5 / 6, 0.0), student, x, images(7), *rest)
    assert torch.equal(elsewhere, clean)


def test_soft_cross_entropy_has_the_gradient_of_kl():
    student, *rest = setting()
    torch.testing.assert_close(
        gradient(two("soft-cross-entropy"), student, *rest),
        gradient(two("kl"), student, *rest),
    )


def test_the_pairwise_term_of_ikl_is_alive():
    student, _, _, teacher, labels = setting()
    logits = student(images(0)).detach().requires_grad_()
    (ikl,) = torch.autograd.grad(improved_kl(teacher, logits, labels).sum(), logits)
    plain = DIVERGENCES["soft-cross-entropy"](teacher, logits, labels).sum()
    (soft,) = torch.autograd.grad(plain, logits)
    assert (ikl - soft).abs().amax(dim=1).min() > 1e-4


def test_a_perfect_student_has_nothing_to_learn():
    teacher = torch.randn(B, 5, dtype=torch.float64)
    for divergence in DIVERGENCES.values():
        logits = teacher.clone().requires_grad_()
        value = divergence(teacher, logits, torch.arange(B) % 5).sum()
        (left,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kld",), "no divergence is called 'kld'. Did you mean"),
        (("kl", -1.0), "clean_weight is -1.0; give 0 <= clean_weight"),
        (("kl", 1.0, float("nan")), "adversarial_weight is nan; give 0 <= adversarial_weight"),
        (("kl", 0.0, 0.0), "clean_weight and adversarial_weight are both 0"),
    ],
)
def test_wrong_constants_are_named(arguments, message):
    with pytest.raises(UserError) as error:
        two(*arguments)
    assert str(error.value).startswith(message)
