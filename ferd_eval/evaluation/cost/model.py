"""Cost of attacks: operations are counted, steps timed. B batch, L slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from ferd_eval.attacks import KeyedRng, Passes, PlannedAttack, Problem, SearchAttack, frozen
from ferd_eval.attacks.losses import margin
from ferd_eval.runtime.device import settled_time

#: Operations in a shard of a search, so that a kill costs minutes: about three of them where a core
#: does 1e11 a second, or an accelerator 3e13.
_SHARD_OPERATIONS = {"cpu": 2e13}
_SHARD_OPERATIONS_ELSEWHERE = 1e16

#: Most images in a shard of a search.
_LARGEST_SHARD = 4096

#: Images that a step is timed on: few, and more if the few took less than `_QUICK` seconds, since
#: small batches underuse a device.
TIMED_IMAGES = (4, 128)
_QUICK = 0.1

#: Steps of a search that are timed; the median counts.
_TIMED_STEPS = 3


def operations(model: nn.Module, x_BCHW: Tensor) -> float:
    """Floating-point operations of a forward pass for one image, counted and not timed.

    Only modules with a weight of two dimensions or more count, as convolutions and linear maps: a
    multiplication and an addition for each output and each weight that leads to it. (torch's own
    counter needs two seconds to be imported.)
    """
    total = 0.0

    def add(module: nn.Module, _: object, output: object) -> None:
        nonlocal total
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1 and isinstance(output, Tensor):
            total += 2.0 * output.numel() * (weight.numel() // len(weight))

    hooks = [module.register_forward_hook(add) for module in model.modules()]
    try:
        with frozen(model), torch.no_grad():
            model(x_BCHW[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return total


def search_unit(operations: float, passes: int, device: str, at_once: int) -> int:
    """Images in a shard of a search; the same on every machine of a kind.

    It takes the `operations` of a forward pass for one image, the `passes` of the costliest search
    for an image that survives (a backward pass counts twice), and the images taken at most.
    """
    budget = _SHARD_OPERATIONS.get(device, _SHARD_OPERATIONS_ELSEWHERE)
    allowed = int(budget / max(operations * passes, 1.0))
    return min(max(allowed, 1), at_once, _LARGEST_SHARD)


def seconds_per_image(
    model: nn.Module, x_BCHW: Tensor, labels_B: Tensor, plan: Sequence[PlannedAttack]
) -> Mapping[str, float]:
    """Attack's repr → seconds for an image that survives, from a few steps of each.

    Images are `TIMED_IMAGES` or fewer, on the model's device.
    """
    attacks = {repr(each): (each, planned.threat) for planned in plan for each in planned.attacks}
    few = TIMED_IMAGES[0]
    with frozen(model):
        if _forward_seconds(model, x_BCHW[:few]) > _QUICK:
            x_BCHW, labels_B = x_BCHW[:few], labels_B[:few]
        with torch.no_grad():
            logits_BK = model(x_BCHW)
        forward = _forward_seconds(model, x_BCHW) / len(x_BCHW)
        backward: float | None = None
        found: dict[str, float] = {}
        for name, (attack, threat) in attacks.items():
            passes = attack.passes_per_image(logits_BK.shape[1])
            if isinstance(attack, SearchAttack):
                targets_B = (labels_B + 1) % logits_BK.shape[1]
                indices_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
                rng = KeyedRng(0, attack.family, indices_B, targets_B)
                images = (x_BCHW, labels_B, targets_B, logits_BK)
                problem = Problem(model, model, *images, threat, rng, Passes(), len(x_BCHW))
                found[name] = _search_seconds(attack, problem)
            else:
                if passes[1] and backward is None:
                    backward = _backward_seconds(model, x_BCHW, labels_B) / len(x_BCHW)
                found[name] = passes[0] * forward + passes[1] * (backward or 0.0)
    return found


def _search_seconds(attack: SearchAttack, problem: Problem) -> float:
    """The start and one step of a search, scaled to all its steps."""
    images, search = len(problem.x_BCHW), attack.search
    step_L = torch.zeros_like(problem.labels_B)
    begun = settled_time(problem.x_BCHW.device)
    state = search.begin(problem)
    start = settled_time(problem.x_BCHW.device) - begun
    state, _ = search.advance(problem, state, step_L)
    step = median(
        _timed(problem.x_BCHW, lambda: search.advance(problem, state, step_L + 1))
        for _ in range(_TIMED_STEPS)
    )
    targets = attack.targets_among(problem.clean_logits_BK.shape[1])
    return targets * (start + search.steps * step) / images


def _forward_seconds(model: nn.Module, x_BCHW: Tensor) -> float:
    def forward() -> None:
        with torch.no_grad():
            model(x_BCHW)

    forward()
    return _timed(x_BCHW, forward)


def _backward_seconds(model: nn.Module, x_BCHW: Tensor, labels_B: Tensor) -> float:
    def both() -> None:
        leaf_BCHW = x_BCHW.detach().requires_grad_()
        torch.autograd.grad(margin(model(leaf_BCHW), labels_B).sum(), leaf_BCHW)

    both()
    return max(_timed(x_BCHW, both) - _forward_seconds(model, x_BCHW), 0.0)


def _timed(x_BCHW: Tensor, work: Callable[[], object]) -> float:
    began = settled_time(x_BCHW.device)
    work()
    return settled_time(x_BCHW.device) - began
