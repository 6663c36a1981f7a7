"""The losses against the papers' formulas in plain torch, values and gradients."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ferd_train.adversarial_training.losses import ROBUST_LOSSES, TRADES, PGDAdversarialTraining
from ferd_train.recipes.teacher import LOSS_NAMES
from tests.conftest import TinyNet

B, K = 12, 4


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """exp z / Σ exp z, written out."""
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def reference_pgd_at(network, x, adv, y):
    return -sum(torch.log(probabilities(network(adv))[b, y[b]]) for b in range(len(y))) / len(y)


def reference_trades(network, x, adv, y, beta):
    p, q = probabilities(network(x)), probabilities(network(adv))
    cross_entropy = -sum(torch.log(p[b, y[b]]) for b in range(len(y))) / len(y)
    divergence = sum(
        p[b, k] * (torch.log(p[b, k]) - torch.log(q[b, k])) for b in range(len(y)) for k in range(K)
    )
    return cross_entropy + beta * divergence / len(y)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(B, 1, 8, 8, generator=generator, dtype=torch.float64)
    adv = (x + 0.2 * torch.rand(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    return x, adv, torch.randint(0, K, (B,), generator=generator)


def value_and_gradients(loss, network: nn.Module, *arguments) -> list[torch.Tensor]:
    value = loss(network, *arguments)
    return [value.detach(), *torch.autograd.grad(value, list(network.parameters()))]


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (PGDAdversarialTraining(), reference_pgd_at),
        (TRADES(6.0), lambda *a: reference_trades(*a, 6.0)),
        (TRADES(0.5), lambda *a: reference_trades(*a, 0.5)),
    ],
    ids=["pgd-at", "trades-6", "trades-0.5"],
)
def test_value_and_gradients_are_those_of_the_formula(loss, reference, batch):
    network = TinyNet(K).double().train()
    ours = value_and_gradients(loss, deepcopy(network), *batch)
    theirs = value_and_gradients(reference, deepcopy(network), *batch)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-10)


def test_trades_without_perturbation_is_cross_entropy(batch):
    x, _, y = batch
    network = TinyNet(K).double().eval()
    torch.testing.assert_close(TRADES(6.0)(network, x, x, y), reference_pgd_at(network, x, x, y))


def test_a_recipe_names_its_loss(tiny):
    assert set(ROBUST_LOSSES) == set(LOSS_NAMES)
    trades = replace(tiny, loss="trades", trades_beta=3.5)
    assert ROBUST_LOSSES["trades"](trades) == TRADES(3.5)
    assert ROBUST_LOSSES["pgd-at"](tiny) == PGDAdversarialTraining()
