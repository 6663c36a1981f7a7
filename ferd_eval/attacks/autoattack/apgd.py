"""Auto-PGD: the step size looks after itself.

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, §§3–4, with the details of the authors' implementation that
change verdicts. L slots, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ferd_eval.attacks import losses
from ferd_eval.attacks.autoattack.batched_search import Search, SlotState, wide
from ferd_eval.attacks.autoattack.rows import is_cheap_to_look_at, overwrite
from ferd_eval.attacks.problem import Objective, Problem

#: Weight of the new move against the previous one (momentum).
_MOVE = 0.75

#: A window in which fewer than this share of steps raised the loss halves the step.
_RISE = 0.75

#: Stands for a window's length before the first move.
_FIRST_MOVE = -1

#: Guard of the DLR's denominator.
_DLR_GUARD = 1e-12


def checkpoints(iterations: int) -> list[int]:
    """Iterations after which step sizes are reconsidered: 22, 41, 57, 70, 80, 87, 93, 99 of 100.

    The first window is 22 % of the iterations; each is 3 % shorter than the last, down to 6 %.
    """
    window = max(int(0.22 * iterations), 1)
    shortest = max(int(0.06 * iterations), 1)
    shrink = max(int(0.03 * iterations), 1)
    found, at = [], 0
    while at + window <= iterations:
        at += window
        found.append(at)
        window = max(window - shrink, shortest)
    return found


def dlr_to_target(logits_BK: Tensor, labels_B: Tensor, targets_B: Tensor) -> Tensor:
    """Targeted difference-of-logits ratio, −(z_y − z_t) / (z₍₁₎ − (z₍₃₎ + z₍₄₎)/2), shape B.

    Below four classes the ratio does not exist; there it is the plain difference z_t − z_y.
    """
    picked_B2 = logits_BK.gather(1, torch.stack([labels_B, targets_B], dim=1))
    difference_B = picked_B2[:, 1] - picked_B2[:, 0]
    if logits_BK.shape[1] < 4:
        return difference_B
    # A full sort, not a top-4: ties must be broken as in the reference.
    sorted_BK = logits_BK.sort(dim=1).values
    scale_B = sorted_BK[:, -1] - 0.5 * (sorted_BK[:, -3] + sorted_BK[:, -4])
    return difference_B / (scale_B + _DLR_GUARD)


@dataclass(frozen=True, eq=False)
class APGDState(SlotState):
    """Position of each walk, its best point, and the state of its step size."""

    before_LCHW: Tensor  # the point before `adv`
    gradient_LCHW: Tensor
    best_LCHW: Tensor  # written into, as is its gradient
    best_gradient_LCHW: Tensor
    best_loss_L: Tensor
    last_loss_L: Tensor  # at the first move 0, a quirk of the reference
    rises_L: Tensor  # steps of this window that raised the loss
    step_size_L: Tensor
    checked_best_loss_L: Tensor  # at the last checkpoint
    halved_L: Tensor  # whether the last checkpoint halved the step


@dataclass(frozen=True)
class APGD(Search[APGDState]):
    """The walk shared by both objectives: a start point, then `iterations` moves."""

    iterations: int = 100

    @property
    def steps(self) -> int:
        """Points tried: the start and one for each iteration."""
        return self.iterations + 1

    @cache  # noqa: B019 - a handful of frozen instances live as long as the program
    def _schedule(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """For each step, the length of the window that ended before it, and the new move's share.

        In place of a length 0 where no window ended, and −1 before the first move.
        """
        schedule_S2 = torch.zeros(self.steps + 1, 2, dtype=dtype)
        schedule_S2[:, 1] = _MOVE
        schedule_S2[:2, 1] = 1.0  # there is no previous move
        schedule_S2[1, 0] = _FIRST_MOVE
        for start, end in pairwise([0, *checkpoints(self.iterations)]):
            schedule_S2[end + 1, 0] = end - start
        return schedule_S2.to(device)

    @abstractmethod
    def objective(self, problem: Problem) -> Objective:
        """The function of the logits to raise."""

    def begin(self, problem: Problem) -> APGDState:
        """A uniform direction stretched to the border of the box, clipped to the pixel range.

        Drawn and stretched in float32, as in the reference, whatever the network's precision.
        """
        x_LCHW = problem.x_BCHW
        noise_LCHW = problem.noise.uniform(tuple(x_LCHW.shape[1:]), torch.float32)
        direction_LCHW = 2 * noise_LCHW - 1
        largest_L = direction_LCHW.abs().flatten(1).amax(dim=1)
        direction_LCHW = (direction_LCHW / largest_L[:, None, None, None]).to(x_LCHW.dtype)
        start_LCHW = (x_LCHW + problem.threat.radius * direction_LCHW).clamp_(0, 1)
        zero_L = torch.zeros_like(largest_L)
        worst_L = zero_L.to(x_LCHW.dtype) - torch.inf
        return APGDState(
            adv_LCHW=start_LCHW,
            before_LCHW=start_LCHW,
            gradient_LCHW=torch.zeros_like(x_LCHW),
            best_LCHW=start_LCHW.clone(),
            best_gradient_LCHW=torch.zeros_like(x_LCHW),
            best_loss_L=worst_L,
            checked_best_loss_L=worst_L,
            last_loss_L=zero_L,
            rises_L=zero_L,
            step_size_L=zero_L + 2 * problem.threat.radius,
            halved_L=torch.ones_like(zero_L, dtype=torch.bool),
        )

    def advance(
        self, problem: Problem, state: APGDState, step_L: Tensor
    ) -> tuple[APGDState, Tensor]:
        """Adapt the step size, move (the start point stays), evaluate loss and gradient."""
        schedule_S2 = self._schedule(state.adv_LCHW.dtype, step_L.device)
        window_L, share_L = schedule_S2.index_select(0, step_L).unbind(1)
        if not is_cheap_to_look_at(window_L) or bool(window_L.any()):
            state = self._adapt(state, window_L)
        tried_LCHW = self._move(problem, state, share_L)
        logits_LK, loss_L, gradient_LCHW = problem.evaluate(tried_LCHW, self.objective(problem))
        hit_L = problem.looks_wrong(logits_LK)

        better_L = loss_L > state.best_loss_L
        new_best = [(state.best_LCHW, tried_LCHW), (state.best_gradient_LCHW, gradient_LCHW)]
        overwrite(better_L, new_best)
        # Rises are judged in float32, as the reference keeps its record of losses.
        recorded_L = loss_L.float()
        moved = APGDState(
            adv_LCHW=tried_LCHW,
            before_LCHW=state.adv_LCHW,
            gradient_LCHW=gradient_LCHW,
            best_LCHW=state.best_LCHW,
            best_gradient_LCHW=state.best_gradient_LCHW,
            best_loss_L=torch.where(better_L, loss_L, state.best_loss_L),
            checked_best_loss_L=state.checked_best_loss_L,
            last_loss_L=recorded_L,
            rises_L=state.rises_L + (recorded_L > state.last_loss_L),
            step_size_L=state.step_size_L,
            halved_L=state.halved_L,
        )
        return moved, hit_L

    def best(self, problem: Problem, state: APGDState) -> Tensor:
        return state.best_LCHW

    def fixed_constants(self) -> Mapping[str, Any]:
        """First step in units of ε, momentum, and when a window halves the step."""
        return {
            "first_step": 2.0,
            "momentum": _MOVE,
            "rho": _RISE,
            "checkpoints": checkpoints(self.iterations),
        }

    def _move(self, problem: Problem, state: APGDState, share_L: Tensor) -> Tensor:
        """A signed step, then a blend of it with the previous move; both stay in the box.

        The start has neither gradient nor previous move: it stays where it is.
        """
        low_LCHW, high_LCHW = problem.box
        at_LCHW = state.adv_LCHW
        moved_LCHW = torch.addcmul(at_LCHW, wide(state.step_size_L), state.gradient_LCHW.sign())
        torch.clamp(moved_LCHW, low_LCHW, high_LCHW, out=moved_LCHW)
        # In place: on a small network these moves cost as much as a forward pass.
        moved_LCHW.sub_(at_LCHW).mul_(wide(share_L)).add_(at_LCHW)
        moved_LCHW.addcmul_(at_LCHW - state.before_LCHW, wide(1 - share_L))
        return torch.clamp(moved_LCHW, low_LCHW, high_LCHW, out=moved_LCHW)

    def _adapt(self, state: APGDState, window_L: Tensor) -> APGDState:
        """If the window that has just ended went badly, halve the step and go back to the best.

        Done before the next move, so that `adv` is the image just tried as long as others look.
        The first move is compared with no loss (a quirk, see `APGDState`) and begins a window.
        """
        first_L = window_L == _FIRST_MOVE
        ends_L = window_L > 0
        few_rises_L = state.rises_L <= _RISE * window_L
        stuck_L = ~state.halved_L & (state.checked_best_loss_L >= state.best_loss_L)
        halve_L = ends_L & (few_rises_L | stuck_L)
        begins_L = ends_L | first_L
        return replace(
            state,
            adv_LCHW=torch.where(wide(halve_L), state.best_LCHW, state.adv_LCHW),
            gradient_LCHW=torch.where(wide(halve_L), state.best_gradient_LCHW, state.gradient_LCHW),
            step_size_L=torch.where(halve_L, state.step_size_L / 2, state.step_size_L),
            halved_L=torch.where(ends_L, halve_L, state.halved_L),
            checked_best_loss_L=torch.where(begins_L, state.best_loss_L, state.checked_best_loss_L),
            last_loss_L=state.last_loss_L.masked_fill(first_L, 0),
            rises_L=state.rises_L.masked_fill(begins_L, 0),
        )


@dataclass(frozen=True)
class APGDCE(APGD):
    """Auto-PGD on cross-entropy."""

    family = "apgd-ce"
    targeted = False

    def objective(self, problem: Problem) -> Objective:
        return lambda logits_LK: losses.cross_entropy(logits_LK, problem.labels_B)


@dataclass(frozen=True)
class APGDT(APGD):
    """Auto-PGD on the targeted DLR, toward one class after the other."""

    family = "apgd-t"

    def objective(self, problem: Problem) -> Objective:
        targets_L = problem.targets_B
        assert targets_L is not None
        return lambda logits_LK: dlr_to_target(logits_LK, problem.labels_B, targets_L)
