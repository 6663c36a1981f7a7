"""What a run will cost, said before it begins. B batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ferd_eval.attacks import Cascade, PlannedAttack, frozen
from ferd_eval.attacks.losses import margin

#: Forward operations of one image × images in a unit of a search, so that a unit takes some minutes
#: at most: a kill costs no more than the unit it hits.
_UNIT_OPERATIONS = {"cpu": 2e10}
_UNIT_OPERATIONS_ELSEWHERE = 2e13

#: Fewest and most images in a unit of a search.
_SMALLEST_UNIT, _LARGEST_UNIT = 8, 4096

#: Images per second are measured on this many at most.
_TIMED_IMAGES = 16


@dataclass(frozen=True)
class Pace:
    """Seconds that one image takes, forward and backward."""

    forward: float
    backward: float

    def seconds(self, passes: tuple[float, float]) -> float:
        """Time of so many forward and backward passes."""
        return passes[0] * self.forward + passes[1] * self.backward


def operations(model: nn.Module, x_BCHW: Tensor) -> float:
    """Floating-point operations of a forward pass for one image, counted and not timed.

    Only matrix products and convolutions count; 0 for a network that has none or hides them.
    """
    from torch.utils.flop_counter import FlopCounterMode  # 0.3 s

    with frozen(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x_BCHW[:1])
    return float(counter.get_total_flops())


def search_unit(operations: float, device: str, at_once: int) -> int:
    """Images in a unit of a search, at most `at_once`; the same on every machine of a kind."""
    allowed = _UNIT_OPERATIONS.get(device, _UNIT_OPERATIONS_ELSEWHERE) / max(operations, 1.0)
    return min(max(int(allowed), _SMALLEST_UNIT), at_once, _LARGEST_UNIT)


def measure_pace(model: nn.Module, x_BCHW: Tensor, labels_B: Tensor, *, by_gradient: bool) -> Pace:
    """Time one forward and one backward pass on a few images, after a warm-up."""
    x_BCHW, labels_B = x_BCHW[:_TIMED_IMAGES], labels_B[:_TIMED_IMAGES]
    forward = backward = 0.0
    with frozen(model):
        for _ in range(2):
            began = _now(x_BCHW)
            with torch.no_grad():
                model(x_BCHW)
            forward = _now(x_BCHW) - began
        for _ in range(2 if by_gradient else 0):
            leaf_BCHW = x_BCHW.detach().requires_grad_()
            began = _now(x_BCHW)
            torch.autograd.grad(margin(model(leaf_BCHW), labels_B).sum(), leaf_BCHW)
            backward = _now(x_BCHW) - began - forward
    return Pace(forward / len(x_BCHW), max(backward, 0.0) / len(x_BCHW))


def passes_at_most(plan: Sequence[PlannedAttack], images: int, classes: int) -> tuple[float, float]:
    """Forward and backward passes if every image stood every attack."""
    forward = backward = 0.0
    for planned in plan:
        once = planned.attack.passes_per_image(classes)
        forward += images * once[0]
        backward += images * once[1]
        if isinstance(planned.attack, Cascade):
            audited = min(planned.attack.sample, images)
            for attack in planned.attack.audits:
                once = attack.passes_per_image(classes)
                forward += audited * once[0]
                backward += audited * once[1]
    return forward, backward


def _now(x_BCHW: Tensor) -> float:
    if x_BCHW.device.type == "cuda":
        torch.cuda.synchronize(x_BCHW.device)
    return time.perf_counter()
