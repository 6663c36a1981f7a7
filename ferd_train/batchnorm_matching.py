"""How far a batch's statistics are from those that batch normalisation keeps: L_bn of FERD.

arXiv 2509.20793, equation 8, after Yin et al., "Dreaming to distill", CVPR 2020:
``Σ_l ‖μ_l(x) − μ_l‖₂ + ‖σ²_l(x) − σ²_l‖₂`` over the inputs of the batch-norm layers. The batch's
variance is the biased one and the norms are not squared. B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_eval.errors import UserError
from ferd_train.shared_batchnorm import pooled
from ferd_train.workers import WHOLE, Share


def layers_with_statistics(network: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers that keep a mean and a variance, in the order they were made."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


class BatchNormMatching:
    """Looks on while networks run, and adds up how far their batches are from what they know.

    Hooks are in place only inside `watch`, so nothing else that runs the same layers is counted.

    Attributes:
        layers: the batch-norm layers looked at.

    Raises:
        UserError: the teacher has none.
    """

    def __init__(self, teacher: nn.Module, *students: nn.Module) -> None:
        """The paper matches teacher and student, the authors' release the teacher alone."""
        self.layers = layers_with_statistics(teacher)
        if not self.layers:
            raise UserError(
                "the teacher has no batch normalisation with running statistics, so the generator "
                "has nothing to match; switch that term off with lambda_bn = 0, or take a teacher "
                "that has."
            )
        for student in students:
            self.layers += layers_with_statistics(student)

    @contextmanager
    def watch(self, share: Share = WHOLE) -> Iterator[list[Tensor]]:
        """Collect a distance, with gradient, from each layer that runs meanwhile.

        Where that is on a process's share of a batch, the distances are the whole batch's.

        Raises:
            AssertionError: a layer runs in train mode, which would move what it is matched to.
        """
        distances: list[Tensor] = []

        def collect(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(layer, _BatchNorm)
            distances.append(distance(layer, arguments[0], share))

        handles = [layer.register_forward_pre_hook(collect) for layer in self.layers]
        try:
            yield distances
        finally:
            for handle in handles:
                handle.remove()


def distance(layer: _BatchNorm, input_BC: Tensor, share: Share = WHOLE) -> Tensor:
    """One layer's part of L_bn, a scalar, for its input B×C×…, which may be a share of a batch."""
    assert not layer.training, "batch statistics are matched in evaluation mode only"
    assert layer.running_mean is not None
    assert layer.running_var is not None
    axes = [axis for axis in range(input_BC.ndim) if axis != 1]
    mean_C = input_BC.mean(dim=axes)
    # In two passes, which on a CPU takes a fifth of torch.var's time. The variance has no gradient
    # in the mean it is taken about: Σ (x − mean) = 0.
    centre_C = mean_C.detach().view(-1, *[1] * (input_BC.ndim - 2))
    variance_C = (input_BC - centre_C).square().mean(dim=axes)
    mean_C, variance_C = pooled(mean_C, variance_C, share)
    gaps = torch.stack([mean_C - layer.running_mean, variance_C - layer.running_var])
    total: Tensor = torch.linalg.vector_norm(gaps, dim=1).sum()
    return total
