"""L_bn against equation 8 in NumPy loops; its hooks leave nothing behind and move nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval.attacks import frozen
from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.synthesis.components.bn_statistics import BatchNormMatching, layers_with_statistics
from tests.conftest import TinyNet


class TwoNorms(nn.Module):
    """Batch normalisation of maps and of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.bn2 = nn.BatchNorm2d(3)
        self.bn1 = nn.BatchNorm1d(3)
        for bn in (self.bn1, self.bn2):
            bn.running_mean.normal_(generator=torch.Generator().manual_seed(1))
            bn.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.bn1(torch.relu(self.bn2(x_BCHW)).amax(dim=(2, 3)))


def reference_distance(x: np.ndarray, bn: nn.Module) -> float:
    """‖mean − μ‖₂ + ‖biased variance − σ²‖₂, channel by channel."""
    mean_gap, variance_gap = 0.0, 0.0
    for c in range(x.shape[1]):
        values = x[:, c].ravel()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        mean_gap += (mean - bn.running_mean[c].item()) ** 2
        variance_gap += (variance - bn.running_var[c].item()) ** 2
    return mean_gap**0.5 + variance_gap**0.5


def watched(matching: BatchNormMatching, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with matching.watch() as distances:
        network(x)
    return torch.stack(distances)


def images(channels: int = 3, side: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, channels, side, side, generator=generator, dtype=torch.float64)


def test_distance_of_each_layer_is_equation_8():
    network, x = TwoNorms().double().eval(), images()
    after = torch.relu(network.bn2(x)).amax(dim=(2, 3)).detach()
    expected = [
        reference_distance(x.numpy(), network.bn2),
        reference_distance(after.numpy(), network.bn1),
    ]
    distances = watched(BatchNormMatching(network), network, x)
    np.testing.assert_allclose(distances.detach().numpy(), expected, rtol=1e-12)


def test_a_batch_with_the_very_statistics_is_at_no_distance():
    network, x = TwoNorms().double().eval(), images()
    network.bn2.running_mean.copy_(x.mean(dim=(0, 2, 3)))
    network.bn2.running_var.copy_(x.var(dim=(0, 2, 3), correction=0))
    assert watched(BatchNormMatching(network), network, x)[0].item() < 1e-12


@pytest.mark.parametrize("layer", ["bn2", "bn1"])
def test_gradient_is_that_of_equation_8(layer):
    """Central differences of the loops above, number by number, for maps and for vectors."""
    network = TwoNorms().double().eval()
    x = images(side=2) if layer == "bn2" else images(side=2).amax(dim=(2, 3))
    bn = network.get_submodule(layer)
    leaf = x.clone().requires_grad_()
    ours = 3 * watched(BatchNormMatching(network), bn, leaf).sum()
    (gradient,) = torch.autograd.grad(ours, leaf)
    for place in np.ndindex(*x.shape):
        sides = []
        for h in (1e-6, -1e-6):
            moved = x.numpy().copy()
            moved[place] += h
            sides.append(reference_distance(moved, bn))
        slope = 3 * (sides[0] - sides[1]) / 2e-6
        assert gradient[place].item() == pytest.approx(slope, abs=1e-8)


def test_at_no_distance_the_gradient_is_zero_and_finite():
    network, x = TwoNorms().double().eval(), torch.zeros(4, 3, 5, 5, dtype=torch.float64)
    network.bn2.running_mean.zero_()
    network.bn2.running_var.zero_()
    leaf = x.requires_grad_()
    total = watched(BatchNormMatching(network), network.bn2, leaf).sum()
    (gradient,) = torch.autograd.grad(total, leaf)
    assert total == 0
    assert not gradient.any()


def test_the_layout_in_memory_changes_nothing():
    network, x = TwoNorms().double().eval(), images()
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.contiguous(memory_format=layout).requires_grad_()
        total = watched(BatchNormMatching(network), network, leaf).sum()
        gradients.append(torch.autograd.grad(total, leaf)[0])
    torch.testing.assert_close(*gradients)


def test_gradient_reaches_the_images():
    network, x = TwoNorms().double().eval(), images().requires_grad_()
    total = watched(BatchNormMatching(network), network, x).sum()
    (gradient,) = torch.autograd.grad(total, x)
    assert gradient.isfinite().all()
    assert (gradient != 0).any(dim=(1, 2, 3)).all()


def test_layers_of_students_count_when_they_run():
    teacher, student = TinyNet(seed=0).double().eval(), TinyNet(seed=1).double().eval()
    x, matching = images(1, 8), BatchNormMatching(teacher, student)
    with matching.watch() as distances:
        teacher(x)
        student(x)
    one, other = (watched(BatchNormMatching(n), n, x) for n in (teacher, student))
    assert torch.equal(torch.stack(distances), torch.cat([one, other]))
    assert len(BatchNormMatching(teacher).layers) == 1


def test_every_layer_of_a_network_is_found():
    network = build_architecture("resnet18", num_classes=2).build().eval()
    assert len(layers_with_statistics(network)) == 20
    assert len(watched(BatchNormMatching(network), network, torch.rand(2, 3, 8, 8))) == 20


def test_hooks_are_gone_afterwards_also_after_an_error():
    network = TwoNorms().double().eval()
    matching = BatchNormMatching(network)
    with pytest.raises(RuntimeError, match="stop"), matching.watch() as distances:
        raise RuntimeError("stop")
    network(images())
    assert distances == []
    assert not network.bn1._forward_pre_hooks
    assert not network.bn2._forward_pre_hooks


def test_buffers_and_modes_stay_to_the_bit():
    network = TwoNorms().double().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    matching = BatchNormMatching(network)
    with frozen(network):
        watched(matching, network, images())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert all(module.training for module in network.modules())


def test_train_mode_is_refused():
    network = TwoNorms().double().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(AssertionError, match="evaluation mode"):
        watched(BatchNormMatching(network), network, images())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    "network", [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3, track_running_stats=False)]
)
def test_a_teacher_without_statistics_is_an_error_that_says_how_to_go_on(network):
    with pytest.raises(UserError, match=r"no batch normalisation.*lambda_bn=0") as error:
        BatchNormMatching(network)
    assert "\n" not in str(error.value)
