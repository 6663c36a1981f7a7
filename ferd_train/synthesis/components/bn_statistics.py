"""Distance of a batch's statistics from those that batch normalisation keeps: L_bn of FERD.

arXiv 2509.20793, equation 8, after Yin et al., "Dreaming to distill", CVPR 2020:
``Σ_l ‖μ_l(x) − μ_l‖₂ + ‖σ²_l(x) − σ²_l‖₂`` over the inputs of the batch-norm layers. The batch's
variance is the biased one and the norms are not squared. B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_train.config.unfit import UnfitError
from ferd_train.training.process_group import WHOLE, BatchShard


def layers_with_statistics(network: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers that keep a mean and a variance, in the order they were made."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@contextmanager
def watch_inputs(
    layers: Sequence[_BatchNorm], measure: Callable[[_BatchNorm, Tensor], Tensor]
) -> Iterator[list[Tensor]]:
    """Collect a value, with gradient, from the input of each of the layers that runs meanwhile.

    Hooks are in place only inside the block, so no other run of the layers counts.
    """
    values: list[Tensor] = []

    def collect(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        values.append(measure(layer, arguments[0]))

    handles = [layer.register_forward_pre_hook(collect) for layer in layers]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


class BatchNormMatching:
    """Distances of batches from the statistics of the networks that run.

    Attributes:
        layers: the batch-norm layers looked at.

    Raises:
        UnfitError: the teacher has none.
    """

    def __init__(self, teacher: nn.Module, *students: nn.Module) -> None:
        """The paper matches teacher and student, the authors' release the teacher alone."""
        self.layers = layers_with_statistics(teacher)
        if not self.layers:
            raise UnfitError(
                [
                    "the teacher has no batch normalisation with running statistics for images "
                    "to match"
                ],
                {"synthesis.lambda_bn": "0"},
                ["take a teacher that has batch normalisation"],
            )
        for student in students:
            self.layers += layers_with_statistics(student)

    def watch(self, share: BatchShard = WHOLE) -> AbstractContextManager[list[Tensor]]:
        """Collect a distance, with gradient, from each layer that runs meanwhile.

        On a process's share of a batch, the distances are the whole batch's.

        Raises:
            AssertionError: a layer runs in train mode, which would move its statistics.
        """
        return watch_inputs(self.layers, lambda layer, input_BC: distance(layer, input_BC, share))


def watched(
    matching: BatchNormMatching | None, share: BatchShard = WHOLE
) -> AbstractContextManager[list[Tensor]]:
    """`BatchNormMatching.watch`, or nothing where L_bn is off."""
    return nullcontext([]) if matching is None else matching.watch(share)


def distance(layer: _BatchNorm, input_BC: Tensor, share: BatchShard = WHOLE) -> Tensor:
    """One layer's part of L_bn, a scalar, for its input B×C×…, which may be a share of a batch."""
    return distance_to(*statistics(layer), input_BC, share)


def statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer in evaluation mode, C each."""
    assert not layer.training, "batch statistics are matched in evaluation mode only"
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def distance_to(
    mean_C: Tensor, variance_C: Tensor, input_BC: Tensor, share: BatchShard = WHOLE
) -> Tensor:
    """‖mean of the batch − mean‖₂ + ‖variance of the batch − variance‖₂, a scalar."""
    total: Tensor = _Distance.apply(input_BC, mean_C, variance_C, share)
    return total


class _Distance(torch.autograd.Function):
    """‖mean − μ‖₂ + ‖variance − σ²‖₂ with its gradient written out.

    Autograd would keep and re-read five tensors of the input's size for each layer; this reads the
    input, which the network keeps anyway, twice forward and once back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input_BC: Tensor,
        known_mean_C: Tensor,
        known_variance_C: Tensor,
        share: BatchShard,
    ) -> Tensor:
        x_BCN = input_BC.flatten(2) if input_BC.ndim > 2 else input_BC[:, :, None]
        count = len(x_BCN) * x_BCN.shape[2] / share.fraction
        mean_C = share.workers.sum(x_BCN.mean(dim=2).mean(dim=0) * share.fraction)
        # Along memory first: on a CPU a third of the time of all axes at once.
        norm_BC = torch.linalg.vector_norm(x_BCN - mean_C[:, None], dim=2)
        variance_C = share.workers.sum(norm_BC.square().sum(dim=0)) / count
        gaps_2C = torch.stack([mean_C - known_mean_C, variance_C - known_variance_C])
        distances_21: Tensor = torch.linalg.vector_norm(gaps_2C, dim=1, keepdim=True)
        # At distance 0 the norm has no direction; like torch's own it then has the gradient 0.
        directions_2C = torch.where(distances_21 > 0, gaps_2C / distances_21, 0) / count
        ctx.save_for_backward(input_BC, mean_C, directions_2C)
        return distances_21.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None, None]:
        input_BC, mean_C, directions_2C = ctx.saved_tensors
        by_mean_C, by_variance_C = above * directions_2C
        # d variance / dx = 2 (x − mean) / count; that in the mean adds up to nothing.
        slope_C = 2 * by_variance_C
        offset_C = by_mean_C - slope_C * mean_C
        channels = (-1, *[1] * (input_BC.ndim - 2))
        by_input_BC = torch.addcmul(offset_C.view(channels), input_BC, slope_C.view(channels))
        return by_input_BC, None, None, None


class MomentumMatching(BatchNormMatching):
    """‖μ − (1−m)·batch − m·past‖₂ of means and of variances, summed over the teacher's layers.

    The past is the running mean, with momentum m too, of the statistics of the last batch of each
    round so far. In the first round there is none, and the batch alone is matched.
    """

    def __init__(self, teacher: nn.Module, momentum: float) -> None:
        super().__init__(teacher)
        self._momentum = momentum
        self._past: list[tuple[Tensor, Tensor]] = []
        self._last: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def watch(self, share: BatchShard = WHOLE) -> AbstractContextManager[list[Tensor]]:
        return watch_inputs(self.layers, self._distance)

    def _distance(self, layer: _BatchNorm, input_BC: Tensor) -> Tensor:
        axes = [0, *range(2, input_BC.ndim)]
        with torch.no_grad():
            self._last[layer] = (input_BC.mean(axes), input_BC.var(axes, correction=0))
        if not self._past:
            return distance(layer, input_BC)
        # The batch counts by 1−m, so its target lies 1/(1−m) times as far.
        own, known = 1 - self._momentum, statistics(layer)
        past = self._past[self.layers.index(layer)]
        mean_C, variance_C = (
            (known_C - self._momentum * past_C) / own
            for known_C, past_C in zip(known, past, strict=True)
        )
        return own * distance_to(mean_C, variance_C, input_BC)

    def end_round(self) -> None:
        """Take the last batch's statistics into the past."""
        latest = [self._last[layer] for layer in self.layers]
        if not self._past:
            self._past = latest
            return
        m = self._momentum
        self._past = [
            (m * mean_C + (1 - m) * new_mean_C, m * variance_C + (1 - m) * new_variance_C)
            for (mean_C, variance_C), (new_mean_C, new_variance_C) in zip(
                self._past, latest, strict=True
            )
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"past": self._past}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        device = statistics(self.layers[0])[0].device
        self._past = [(mean.to(device), variance.to(device)) for mean, variance in state["past"]]
