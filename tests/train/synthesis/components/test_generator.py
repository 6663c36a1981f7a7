"""The generator: its layers by a functional twin, its sizes, and how it is made anew."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from ferd_eval.errors import UserError
from ferd_train.synthesis.components.generator import Generator, usual_weights

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normalised(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    scaled = (x - mean) / torch.sqrt(variance + 1e-5)
    return scaled * bn.weight[None, :, None, None] + bn.bias[None, :, None, None]


@pytest.mark.parametrize("shape", SHAPES)
def test_images_have_their_size_and_range(shape):
    network = Generator(shape, source())
    x = network(network.draw_latents(5, source(1)))
    assert x.shape == (5, *shape)
    assert 0 <= x.min() < x.max() <= 1
    assert network.training


def test_layers_are_the_specified_ones():
    """Linear → BN → 2 × (up, conv, BN, LeakyReLU) → conv → sigmoid, with its own numbers."""
    network = Generator((3, 32, 32), source()).double()
    z = torch.randn(4, 100, generator=source(1), dtype=torch.float64)
    linear, (conv1, conv2, conv3) = (
        network.layers[0],
        [layer for layer in network.layers if isinstance(layer, nn.Conv2d)],
    )
    bn0, bn1, bn2 = (layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d))
    assert [tuple(c.weight.shape[:2]) for c in (conv1, conv2, conv3)] == [
        (128, 128),
        (64, 128),
        (3, 64),
    ]
    x = (z @ linear.weight.T + linear.bias).reshape(4, 128, 8, 8)
    x = normalised(x, bn0)
    for conv, bn in ((conv1, bn1), (conv2, bn2)):
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = normalised(F.conv2d(x, conv.weight, padding=1), bn)
        x = torch.where(x > 0, x, 0.2 * x)
    x = 1 / (1 + torch.exp(-F.conv2d(x, conv3.weight, conv3.bias, padding=1)))
    torch.testing.assert_close(network(z), x)


def test_gradients_are_those_of_upsampling_and_convolving():
    """Both steps in one give the gradients that the two give one after the other."""
    network = Generator((1, 12, 12), source(), width=3).double()
    layer = next(layer for layer in network.layers if isinstance(layer, nn.Conv2d))
    x = torch.randn(2, 6, 3, 3, generator=source(1), dtype=torch.float64, requires_grad=True)
    above = torch.randn(2, 6, 6, 6, generator=source(2), dtype=torch.float64)
    twice = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(twice, layer.weight, padding=1)
    leaves = (x, layer.weight)
    torch.testing.assert_close(layer(x), expected)
    for ours, theirs in zip(
        torch.autograd.grad(layer(x), leaves, above),
        torch.autograd.grad(expected, leaves, above),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_weights_are_drawn_from_their_normals():
    network = Generator((3, 32, 32), source())
    for layer in network.layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            z = layer.weight.detach().flatten().numpy() / 0.02
        elif isinstance(layer, nn.BatchNorm2d):
            z = (layer.weight.detach().numpy() - 1) / 0.02
        else:
            continue
        assert stats.kstest(z, "norm").pvalue > 0.001
        assert layer.bias is None or not layer.bias.any()


def test_usual_weights_are_torchs_own_by_their_spread():
    """A larger network than any made here, so that spreads are known to a percent."""
    theirs, ours = torch.nn.Linear(400, 300), torch.nn.Linear(400, 300)
    kernel = torch.nn.Conv2d(40, 50, 3)
    with torch.no_grad():
        usual_weights(ours, source())
        usual_weights(kernel, source(1))
    for layer, inputs in ((ours, 400), (kernel, 360)):
        for tensor in (layer.weight, layer.bias):
            share = tensor.detach().flatten().numpy() * inputs**0.5
            assert stats.kstest(share, "uniform", args=(-1, 2)).pvalue > 0.001
    assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.02)
    network = Generator((1, 12, 12), source(), width=3, draw=usual_weights)
    norms = [layer for layer in network.layers if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    assert network.layers[0].weight.abs().max() <= 0.1
    assert network.layers[0].weight.abs().max() > 0.09
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.reset(source())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_reset_forgets_everything_but_the_seed():
    network = Generator((1, 28, 28), source(3), width=4)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    adam = torch.optim.Adam(network.parameters())
    network(network.draw_latents(4, source())).sum().backward()
    adam.step()
    assert any(not torch.equal(t, fresh[name]) for name, t in network.state_dict().items())
    network.reset(source(3))
    assert all(torch.equal(t, fresh[name]) for name, t in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    network.reset(source(4))
    assert not torch.equal(network.layers[0].weight, fresh["layers.0.weight"])


def test_latents_are_standard_normal_and_follow_the_seed():
    network = Generator((1, 28, 28), source(), latent=50, width=2)
    z = network.draw_latents(200, source(1))
    assert z.shape == (200, 50)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.001
    assert torch.equal(z, network.draw_latents(200, source(1)))
    assert not torch.equal(z, network.draw_latents(200, source(2)))


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    network = Generator((1, 28, 28), source(), width=2)
    network.reset(source(1))
    network.draw_latents(3, source(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_reach_weights_and_latents():
    network = Generator((1, 28, 28), source(), width=4)
    z = network.draw_latents(3, source(1)).requires_grad_()
    network(z).square().sum().backward()
    for leaf in (z, *network.parameters()):
        # The linear layer's bias is taken away by the batch normalisation after it.
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert (z.grad != 0).any(dim=1).all()
    assert (network.layers[0].weight.grad != 0).any()


def test_odd_sizes_are_refused():
    with pytest.raises(UserError, match=r"30×32.*multiples of 4"):
        Generator((3, 30, 32), source())
