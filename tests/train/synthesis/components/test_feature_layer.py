"""Cutting a network: both halves are the whole, to the bit, at every layer of every family."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models import Classifier, Normalization, build_architecture
from ferd_eval.models.architectures.registry import FAMILIES as REGISTERED
from ferd_train.synthesis.components.feature_layer import split, steps_of

FAMILIES = [
    ("wideresnet-10-1", 16, "bn1", 64, 4),
    ("resnet8", 16, "layer3", 64, 4),
    ("resnet18", 16, "layer4", 512, 2),
    ("resnet50", 16, "layer4", 2048, 2),
    ("preactresnet18", 16, "layer4", 512, 2),
    ("preactresnet18-raw", 16, "layer4", 512, 2),
    ("mobilenetv2", 32, "bn2", 1280, 4),
    ("cnn28-4", 28, "bn3", 16, 7),
]
BY_NAME = [pytest.param(*row, id=row[0]) for row in FAMILIES]


def network_of(name: str, num_classes: int = 10, seed: int = 0) -> nn.Module:
    """Fresh weights, and batch-norm statistics that are not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_architecture(name, num_classes=num_classes).build().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


def images(side: int, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "side", "layer", "channels", "size"), BY_NAME)
def test_default_layer_is_the_last_convolution(name, side, layer, channels, size):
    halves = split(network_of(name))
    assert halves.layer == layer
    assert halves.trunk(images(side)).shape == (2, channels, size, size)


@pytest.mark.parametrize(("name", "side"), [pytest.param(r[0], r[1], id=r[0]) for r in FAMILIES])
def test_halves_are_the_whole_at_every_layer(name, side):
    network, x = network_of(name), images(side)
    with torch.no_grad():
        logits = network(x)
        for layer in steps_of(network).features:
            halves = split(network, layer)
            features, after = halves(x)
            assert features.ndim == 4
            assert torch.equal(after, logits), layer
            assert torch.equal(halves.tail(halves.trunk(x)), logits), layer


def test_every_registered_family_can_be_cut():
    """A new family needs its steps, and a line in the table above."""
    tried = {type(build_architecture(name, num_classes=2)) for name, *_ in FAMILIES}
    assert tried == set(REGISTERED)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_logits_have_the_networks_classes(num_classes):
    halves = split(network_of("resnet8", num_classes))
    assert halves(images(16))[1].shape == (2, num_classes)


def test_wideresnet_is_cut_between_the_final_batch_norm_and_its_relu():
    network, x = network_of("wideresnet-10-1"), images(16)
    with torch.no_grad():
        stages = network.block3(network.block2(network.block1(network.conv1(x))))
        features = split(network).trunk(x)
        assert torch.equal(features, network.bn1(stages))
        assert features.min() < 0


def test_gradients_are_those_of_the_whole():
    network, x = network_of("preactresnet18"), images(16).requires_grad_()
    (whole,) = torch.autograd.grad(network(x).logsumexp(1).sum(), x)
    (halves,) = torch.autograd.grad(split(network)(x)[1].logsumexp(1).sum(), x)
    assert torch.equal(whole, halves)


def test_a_classifier_keeps_its_normalisation():
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    model = Classifier(network_of("resnet8"), num_classes=10, normalization=normalization)
    halves = split(model)
    with torch.no_grad():
        assert torch.equal(halves(images(16))[1], model(images(16)))


def test_halves_share_layers_and_modes_with_the_network():
    network = network_of("resnet8")
    halves = split(network)
    own = {id(p) for p in network.parameters()}
    shared = [*halves.trunk.parameters(), *halves.tail.parameters()]
    assert {id(p) for p in shared} == own
    assert not any(module.training for module in network.modules())


def test_a_layer_that_is_not_there_is_named_with_all_that_are():
    with pytest.raises(
        UserError, match=r"no feature layer 'layr2'.*: conv1, bn1, relu, layer1"
    ) as e:
        split(network_of("resnet8"), "layr2")
    assert "\n" not in str(e.value)


def test_an_unknown_family_is_an_error_that_says_how_to_go_on():
    with pytest.raises(UserError, match=r"cut a Linear.*lambda_uni=0"):
        split(nn.Linear(3, 2))
