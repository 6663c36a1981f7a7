"""Batch-norm statistics matched by a running mean over rounds, so that few images can do it.

Fang et al., "Up to 100× faster data-free knowledge distillation", AAAI 2022, and its public code.
B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_train.synthesis.batchnorm_matching import BatchNormMatching, distance_to


class MomentumMatching:
    """‖μ − (1−m)·batch − m·past‖₂ of means and of variances, summed over the teacher's layers.

    The past is the running mean, with momentum m too, of the statistics of the last batch of each
    round so far. In the first round there is none, and the batch alone is matched.

    Raises:
        UserError: the teacher has no batch normalisation.
    """

    def __init__(self, teacher: nn.Module, momentum: float) -> None:
        self._layers = BatchNormMatching(teacher).layers
        self._momentum = momentum
        self._past: list[tuple[Tensor, Tensor]] = []
        self._last: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def watch(self) -> Iterator[list[Tensor]]:
        """Collect a distance, with gradient, from each layer that runs meanwhile."""
        distances: list[Tensor] = []

        def collect(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(layer, _BatchNorm)
            assert not layer.training, "batch statistics are matched in evaluation mode only"
            distances.append(self._distance(layer, arguments[0]))

        handles = [layer.register_forward_pre_hook(collect) for layer in self._layers]
        try:
            yield distances
        finally:
            for handle in handles:
                handle.remove()

    def _distance(self, layer: _BatchNorm, input_BC: Tensor) -> Tensor:
        axes = [0, *range(2, input_BC.ndim)]
        with torch.no_grad():
            self._last[layer] = (input_BC.mean(axes), input_BC.var(axes, correction=0))
        assert layer.running_mean is not None
        assert layer.running_var is not None
        if not self._past:
            return distance_to(layer.running_mean, layer.running_var, input_BC)
        # The batch counts by 1−m, so what it has to reach lies 1/(1−m) times as far.
        own = 1 - self._momentum
        mean_C, variance_C = self._past[self._layers.index(layer)]
        wanted_mean_C = (layer.running_mean - self._momentum * mean_C) / own
        wanted_variance_C = (layer.running_var - self._momentum * variance_C) / own
        return own * distance_to(wanted_mean_C, wanted_variance_C, input_BC)

    def end_round(self) -> None:
        """Take the last batch's statistics into the past."""
        latest = [self._last[layer] for layer in self._layers]
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

    def state(self) -> dict[str, Any]:
        """The past."""
        return {"past": self._past}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave."""
        self._past = [(mean.to(device), variance.to(device)) for mean, variance in state["past"]]
