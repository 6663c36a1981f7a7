"""Folded networks against the networks they are made from."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from ferd_eval.attacks import frozen
from ferd_eval.models import Classifier, build_architecture
from ferd_eval.models.normalization import Normalization
from ferd_train.training.folding import FoldedNetwork
from ferd_train.training.process_group import BatchShard, Workers
from ferd_train.training.sync_batchnorm import share_batch_norm

SHAPE = (3, 16, 16)


def stir(network: nn.Module, seed: int) -> None:
    """Draw weights, and statistics that differ from the initial ones."""
    source = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=source).to(tensor)
            near_one = tensor.ndim == 1 and not name.endswith(("bias", "mean"))
            tensor.copy_(drawn + 0.5 if near_one else (drawn - 0.5) * 0.4)


def family(name: str) -> nn.Module:
    network = build_architecture(name, num_classes=10, in_channels=3).build().double()
    stir(network, 0)
    return network


def answers(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the gradient of a combination of them with respect to the images."""
    source = torch.Generator().manual_seed(1)
    x = torch.rand(4, *SHAPE, generator=source, dtype=torch.float64).requires_grad_()
    with frozen(network):
        logits = network(x)
        weights = torch.randn(logits.shape, generator=source, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    return logits.detach(), gradient


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("resnet8-w8", 7),
        ("resnet18-w8", 20),
        ("preactresnet18-w8", 8),
        ("mobilenetv2", 57),
        ("wrn-10-1", 3),
    ],
)
def test_logits_and_gradients_are_the_networks_own(name, folded):
    network = family(name)
    fast = FoldedNetwork(network, SHAPE)
    assert len(fast.folded) == folded
    for ours, theirs in zip(answers(fast), answers(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_it_follows_the_weights_and_statistics_at_refresh():
    network = family("resnet8-w8")
    fast = FoldedNetwork(network, SHAPE)
    before, _ = answers(fast)
    stir(network, 2)
    fast.refresh()
    for ours, theirs in zip(answers(fast), answers(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(answers(fast)[0], before)


def test_normalisation_and_batch_norms_of_several_processes():
    network = family("resnet8-w8")
    share_batch_norm(network, BatchShard(Workers(0, 2), 8))
    constants = Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    classifier = Classifier(network, num_classes=10, normalization=constants).double()
    fast = FoldedNetwork(classifier, SHAPE)
    assert len(fast.folded) == 7
    for ours, theirs in zip(answers(fast), answers(classifier), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_network_is_left_as_it_is():
    network = family("resnet8-w8").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    flags = [parameter.requires_grad for parameter in network.parameters()]
    answers(FoldedNetwork(network, SHAPE))
    assert all(module.training for module in network.modules())
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


class Remembering(nn.Module):
    """ReLUs of a convolution's output and of a sum that are used again, and of a difference."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.bn(self.conv(x))
        total = (relu(y) - y) + x
        return (relu(total) - 2 * total + relu(x - 0.5)).mean(dim=(2, 3))


def test_relus_in_place_change_nothing_that_is_used_again():
    network = Remembering().double()
    stir(network, 0)
    fast = FoldedNetwork(network, SHAPE)
    assert len(fast.folded) == 1
    for ours, theirs in zip(answers(fast), answers(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


class Shared(nn.Module):
    """A convolution whose output is used twice, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, x):
        x = self.conv1(x)
        x = x + self.bn1(x)
        x = self.bn2(self.conv2(x)) + self.bn3(self.conv2(x))
        return x.mean(dim=(2, 3))


class Deciding(nn.Module):
    """Looks at numbers, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x if x.sum() > 0 else -x)).mean(dim=(2, 3))


class Counting(nn.Module):
    """Computes something else at each run, which a trace cannot know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.runs = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), 0

    def forward(self, x):
        self.runs += 1
        return self.bn(self.conv(x)).mean(dim=(2, 3)) * self.runs


@pytest.mark.parametrize("kind", [Shared, Deciding, Counting])
def test_what_cannot_be_folded_stays(kind):
    network = kind().double()
    stir(network, 0)
    fast = FoldedNetwork(network, SHAPE)
    assert not fast.folded
    if kind is not Counting:
        for ours, theirs in zip(answers(fast), answers(network), strict=True):
            assert torch.equal(ours, theirs)
    else:
        assert fast.network is network
