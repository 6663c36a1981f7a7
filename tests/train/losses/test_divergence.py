"""Divergences against their sums, number by number in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ferd_train.losses.divergence import (
    class_mean_probabilities,
    kl,
    kl_from_uniform,
    pairwise_gap,
    soft_cross_entropy,
)

B = 5
CLASSES = pytest.mark.parametrize("num_classes", [2, 10, 100])


def logits(num_classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(B, num_classes, generator=generator, dtype=torch.float64)


def softmax(row: torch.Tensor) -> list[float]:
    exponentials = [math.exp(value) for value in row.tolist()]
    return [value / sum(exponentials) for value in exponentials]


@CLASSES
def test_kl_is_its_sum(num_classes):
    p, q = logits(num_classes, 0), logits(num_classes, 1)
    expected = [
        sum(a * math.log(a / b) for a, b in zip(softmax(p[i]), softmax(q[i]), strict=True))
        for i in range(B)
    ]
    np.testing.assert_allclose(kl(p, q), expected, rtol=1e-10)
    np.testing.assert_allclose(kl(p, p), 0, atol=1e-15)


@CLASSES
def test_kl_from_uniform_is_its_sum_with_one_over_k(num_classes):
    q, u = logits(num_classes, 1), 1 / num_classes
    expected = [sum(u * math.log(u / b) for b in softmax(q[i])) for i in range(B)]
    np.testing.assert_allclose(kl_from_uniform(q), expected, rtol=1e-10)
    np.testing.assert_allclose(kl_from_uniform(torch.full_like(q, 7.0)), 0, atol=1e-12)


@CLASSES
def test_soft_cross_entropy_is_its_sum(num_classes):
    p, q = logits(num_classes, 0), logits(num_classes, 1)
    expected = [
        -sum(a * math.log(b) for a, b in zip(softmax(p[i]), softmax(q[i]), strict=True))
        for i in range(B)
    ]
    np.testing.assert_allclose(soft_cross_entropy(p, q), expected, rtol=1e-10)


@CLASSES
def test_pairwise_gap_is_its_double_sum(num_classes):
    a, b, w = logits(num_classes, 0), logits(num_classes, 1), logits(num_classes, 2).softmax(1)
    expected = []
    for i in range(B):
        total = 0.0
        for j in range(num_classes):
            for k in range(num_classes):
                gap = (a[i, j] - a[i, k]) - (b[i, j] - b[i, k])
                total += w[i, j].item() * w[i, k].item() * gap.item() ** 2
        expected.append(total / 4)
    np.testing.assert_allclose(pairwise_gap(a, b, w), expected, rtol=1e-10)


def test_pairwise_gap_and_soft_cross_entropy_have_the_gradients_of_kl():
    """Theorem 1 of Cui et al.: with w = p, the first has KL's gradient in p, the second in q."""
    p, q = logits(6, 0).requires_grad_(), logits(6, 1).requires_grad_()
    by_p, by_q = torch.autograd.grad(kl(p, q).sum(), (p, q))
    w = p.detach().softmax(1)
    (first,) = torch.autograd.grad(pairwise_gap(p, q.detach(), w).sum(), p)
    (second,) = torch.autograd.grad(soft_cross_entropy(p.detach(), q).sum(), q)
    torch.testing.assert_close(first, by_p)
    torch.testing.assert_close(second, by_q)


def test_class_means_are_means_over_the_class():
    z, labels = logits(4, 0), torch.tensor([2, 0, 2, 2, 3])
    means = class_mean_probabilities(z, labels)
    third = np.mean([softmax(z[i]) for i in (0, 2, 3)], axis=0)
    for row in (0, 2, 3):
        np.testing.assert_allclose(means[row], third)
    np.testing.assert_allclose(means[1], softmax(z[1]))
