"""Batch norms fused into the convolutions before them: the same function, but cheaper.

In evaluation mode a batch norm after a convolution is a second affine map and can be multiplied
into the first. That saves 10 to 30 % of a pass on post-activation networks on a CPU, and rounds
differently. So fused networks only *propose*: the network itself always decides.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ferd_eval.attacks import SearchNetwork
from ferd_eval.evaluation.execution.agreement import Agreement
from ferd_eval.models import Classifier

#: Logits may differ by this much relative to the largest one; more is not rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Fusion:
    """What was fused, and how the fused network compares with the one it was made from."""

    folded: int  #: batch norms that are gone
    agreement: Agreement

    @property
    def is_rounding(self) -> bool:
        """Whether the two networks are one but for rounding, and fusion changed anything."""
        return self.folded > 0 and self.agreement.within(_ROUNDING)

    def describe(self) -> dict[str, Any]:
        return {"folded": self.folded, **self.agreement.describe()}


def fuse_batchnorm(
    model: nn.Module, x_BCHW: Tensor, logits_BK: Tensor
) -> tuple[nn.Module, Fusion | None]:
    """A copy to search with, or the model itself where fusion is impossible or not exact.

    Beside it how the two compare on clean images, of which the model's logits are known; None where
    nothing could be fused.
    """
    try:
        fused = _fused(model).eval().requires_grad_(False)
        agreement = Agreement.of(logits_BK, SearchNetwork(fused), x_BCHW)
    except Exception:  # a network that cannot be traced raises anything at all
        return model, None
    fusion = Fusion(_count(model) - _count(fused), agreement)
    return (fused if fusion.is_rounding else model), fusion


def _fused(model: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse  # compilers: not needed by most commands

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        if not isinstance(model, Classifier):
            return fuse(model)
        shell = copy.copy(model)
        shell._modules = {**model._modules, "network": fuse(model.network)}
        return shell
    finally:
        for module, training in modes:
            module.training = training


def _count(model: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
