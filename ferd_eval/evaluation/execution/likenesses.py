"""Cheaper likenesses of the network under test, for attacks to search with.

B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.attacks import SearchNetwork, frozen
from ferd_eval.evaluation.config import AUTO, SINGLE
from ferd_eval.evaluation.execution.agreement import Agreement
from ferd_eval.evaluation.execution.batchnorm_fusion import fuse_batchnorm
from ferd_eval.evaluation.execution.search_precision import PRECISIONS, SearchPrecision
from ferd_eval.runtime.device import settled_time

#: Timed so often after a first pass; the least counts.
_TIMED = 2

#: Passes that timing one likeness costs an image, a backward pass as two.
TIMING_PASSES = 3 * (1 + _TIMED)

#: A lower precision is taken where it needs at most this share of single precision's time.
_WORTH = 0.9

#: Predicted classes may differ on this share of the images in a lower precision: there are always
#: some whose margin is less than its rounding.
_OTHER_CLASS = 0.1


class Likenesses:
    """A network's likenesses, each made and compared with it once.

    Args:
        model: the network under test; it stays as it is.
        x_BCHW: clean images to compare on.
        logits_BK: its output on them.
        fold: fuse batch norms where that changes logits by rounding only.
    """

    def __init__(self, model: nn.Module, x_BCHW: Tensor, logits_BK: Tensor, *, fold: bool) -> None:
        self._x_BCHW, self._logits_BK = x_BCHW, logits_BK
        network, self._fusion = model, None
        if fold:
            network, self._fusion = fuse_batchnorm(model, x_BCHW, logits_BK)
        self._single = SearchNetwork(network)
        self._lower: dict[str, SearchNetwork | None] = {}
        self._agreement: dict[str, Agreement] = {}

    def get(self, precision: str) -> SearchNetwork:
        """In this precision or, where the network cannot be had in it, in its own."""
        if precision == SINGLE:
            return self._single
        if precision not in self._lower:
            self._lower[precision] = self._make(precision, PRECISIONS[precision])
        return self._lower[precision] or self._single

    def choose(self, asked: str, x_BCHW: Tensor) -> dict[str, Any]:
        """The precision to search in, with what was measured: entries of the manifest.

        Args:
            asked: a name of `PRECISIONS`, ``fp32``, or ``auto`` for the fastest by measurement.
            x_BCHW: images to time passes on; with none, ``auto`` is single precision.
        """
        names = [asked] if asked in PRECISIONS else []
        if asked == AUTO and len(x_BCHW) and x_BCHW.dtype == torch.float32:
            names = [name for name, each in PRECISIONS.items() if each.is_native(x_BCHW.device)]
        close = [name for name in names if self.get(name) is not self._single]
        seconds: dict[str, float] = {}
        if asked == AUTO and close:
            seconds = {name: _seconds(self.get(name), x_BCHW) for name in (SINGLE, *close)}
            best = min(seconds, key=lambda name: seconds[name])
            close = [best] if seconds[best] <= _WORTH * seconds[SINGLE] else []
        agreement = {name: each.describe() for name, each in self._agreement.items()}
        search = {
            "precision": close[0] if close else SINGLE,
            **({"seconds_per_image": seconds} if seconds else {}),
            **({"agreement": agreement} if agreement else {}),
        }
        folding = {"folding": self._fusion.describe()} if self._fusion else {}
        return {"search": search, **folding}

    def _make(self, name: str, precision: SearchPrecision) -> SearchNetwork | None:
        try:
            likeness = precision.likeness(self._single.model, self._x_BCHW)
            agreement = Agreement.of(self._logits_BK, likeness, self._x_BCHW)
        except Exception:  # a network that was not written for it raises anything at all
            return None
        self._agreement[name] = agreement
        close = agreement.within(precision.rounding, _OTHER_CLASS)
        return replace(likeness, slack=agreement.margin) if close else None


def _seconds(search: SearchNetwork, x_BCHW: Tensor) -> float:
    """Of a forward and a backward pass, an image."""
    times = []
    with frozen(search.model):
        for _ in range(1 + _TIMED):
            began = settled_time(x_BCHW.device)
            leaf_BCHW = x_BCHW.detach().requires_grad_()
            with search.arithmetic():
                torch.autograd.grad(search.model(leaf_BCHW).square().sum(), leaf_BCHW)
            times.append(settled_time(x_BCHW.device) - began)
    return min(times[1:]) / len(x_BCHW)
