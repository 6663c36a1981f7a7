"""Batch normalisation over a batch that several processes share.

Torch's own works only on GPUs. B batch, C channels, N positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_train.training.process_group import BatchShard


def pooled(mean_C: Tensor, variance_C: Tensor, share: BatchShard) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the whole batch, from those over a process's own rows.

    Pools the shards' moments: a mean of squares minus a squared mean would lose digits.
    """
    workers = share.workers
    if workers.count == 1:
        return mean_C, variance_C
    # Sending the weights along saves a copy to the device.
    own_3C = torch.stack([mean_C, variance_C, torch.full_like(mean_C, share.fraction)])
    means_WC, variances_WC, weights_WC = workers.share(workers.count).gather(own_3C[None]).unbind(1)
    mean_C = (weights_WC * means_WC).sum(dim=0)
    variance_C = (weights_WC * (variances_WC + (means_WC - mean_C).square())).sum(dim=0)
    return mean_C, variance_C


def share_batch_norm(network: nn.Module, share: BatchShard) -> None:
    """Replace batch norm layers by ones that normalise over the whole batch of several processes.

    Parameters, buffers and their names stay.
    """
    if share.workers.count == 1:
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm(child, share))


class SharedBatchNorm(_BatchNorm):
    """`layer`, which in train mode sees the rows of all processes."""

    def __init__(self, layer: _BatchNorm, share: BatchShard) -> None:
        """Take over a layer's parameters and buffers."""
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
        for name, parameter in layer.named_parameters():
            setattr(self, name, parameter)
        for name, buffer in layer.named_buffers():
            setattr(self, name, buffer)
        self.train(layer.training)
        self._share = share

    def forward(self, x_BC: Tensor) -> Tensor:
        """Normalise B×C×…, B being the process's own rows."""
        if not self.training:
            return super().forward(x_BC)
        y_BC, mean_C, variance_C = _Normalisation.apply(
            x_BC, self.weight, self.bias, self.eps, self._share
        )
        count = self._share.total * x_BC[0, 0].numel()
        self._keep(mean_C, variance_C * (count / (count - 1)))
        normalised_BC: Tensor = y_BC
        return normalised_BC

    @torch.no_grad()
    def _keep(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Update running statistics; without momentum, to the mean of all batches."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, factor)
        self.running_var.lerp_(variance_C, factor)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Any will do: the layers come from working networks."""


class _Normalisation(torch.autograd.Function):
    """One exchange forward, of statistics, and one backward, of their gradients' sums."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BC: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        eps: float,
        share: BatchShard,
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = _all_but_channels(x_BC)
        own_variance_C, own_mean_C = torch.var_mean(x_BC, dim=axes, correction=0)
        mean_C, variance_C = pooled(own_mean_C, own_variance_C, share)
        ctx.save_for_backward(x_BC, mean_C, (variance_C + eps).rsqrt(), weight_C)
        ctx.has_bias, ctx.share = bias_C is not None, share
        ctx.mark_non_differentiable(mean_C, variance_C)
        y_BC = batch_norm(x_BC, mean_C, variance_C, weight_C, bias_C, training=False, eps=eps)
        return y_BC, mean_C, variance_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above_BC: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x_BC, mean_C, inverse_C, weight_C = ctx.saved_tensors
        axes, channels = _all_but_channels(x_BC), (-1, *[1] * (x_BC.ndim - 2))
        unit_BC = (x_BC - mean_C.view(channels)) * inverse_C.view(channels)
        own_sums_2C = torch.stack([above_BC.sum(dim=axes), (above_BC * unit_BC).sum(dim=axes)])
        # How the loss moves with mean and variance is known when all rows have been asked.
        count = ctx.share.total * x_BC[0, 0].numel()
        level_C, slope_C = ctx.share.workers.sum(own_sums_2C) / count
        scale_C = inverse_C if weight_C is None else inverse_C * weight_C
        along_BC = above_BC - level_C.view(channels) - unit_BC * slope_C.view(channels)
        return (
            along_BC * scale_C.view(channels),
            None if weight_C is None else own_sums_2C[1],
            own_sums_2C[0] if ctx.has_bias else None,
            None,
            None,
        )


def _all_but_channels(x_BC: Tensor) -> list[int]:
    return [axis for axis in range(x_BC.ndim) if axis != 1]
