"""The nearest point of a hyperplane, in L∞, that is still an image.

L slots, D pixels of an image (all channels); every row on its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ferd_eval.attacks.autoattack.rows import is_cheap_to_look_at

#: Newton steps for the length of the move. Images settle in 3 to 5; twelve take gap times slope
#: (see `shortest_move`) down to float32's rounding, 4⁻¹² = 6e−8, whatever the weights.
_NEWTON_STEPS = 12


def shortest_move(at_LD: Tensor, normal_LD: Tensor, level_L: Tensor) -> Tensor:
    """Smallest move, in L∞, onto a hyperplane without leaving the pixel range.

    FAB's projection (Croce & Hein, ICML 2020, for p = ∞): minimise ‖δ‖∞ subject to
    ⟨w, δ⟩ = −level and 0 ≤ at + δ ≤ 1. Pixel i only ever helps by moving against level · w_i, and
    has room for u_i before it meets 0 or 1. A move of length λ therefore does best as
    |δ_i| = min(λ, u_i), which brings the plane nearer by g(λ) = Σ |w_i| min(λ, u_i): increasing,
    concave, and straight between the u_i. What is left is to solve g(λ) = |level|.

    Newton's steps λ ← λ + (|level| − g) / g' from λ = 0, with g' the slope to the right, never
    overshoot, since each tangent lies above g, and end on the solution once no u_i lies in between.
    With r = |level| − g before a step and r⁺, g'⁺ after it, concavity gives r⁺/r + g'⁺/g' ≤ 1, so
    r · g' falls to a quarter or less each time (Dinkelbach, "On nonlinear fractional programming",
    Management Science 1967, has the same iteration). Hence no sort, and on an accelerator, which
    would have to wait for it, no look at the values.

    A plane that no image reaches is approached as far as the pixel range allows. Pixels without
    weight stay where they are.

    Args:
        at_LD: points with all pixels in [0, 1]; further dimensions may come first.
        normal_LD: w, normal to the plane.
        level_L: how far above the plane each point is, in units of ⟨w, x⟩; negative if below.

    Returns:
        The moves δ, in the shape of `at_LD`.
    """
    # No `torch.where` here: on a CPU it takes ten times as long as a product.
    down_L1 = (level_L > 0).to(at_LD.dtype).mul_(-2).add_(1).unsqueeze(-1)
    direction_LD = normal_LD.sign() * down_L1
    room_LD = torch.gt(direction_LD, 0, out=torch.empty_like(at_LD)).sub_(at_LD).abs_()
    weight_LD = normal_LD.abs()
    goal_L = level_L.abs()
    # The first step starts from 0, where nothing is used.
    open_LD = torch.gt(room_LD, 0, out=torch.empty_like(room_LD))
    length_L = _step(goal_L, open_LD.mul_(weight_LD).sum(dim=-1))
    length_L = _newton(length_L, goal_L, weight_LD, room_LD, _NEWTON_STEPS - 1)
    return torch.minimum(room_LD, length_L.unsqueeze(-1), out=room_LD).mul_(direction_LD)


def _newton(
    length_L: Tensor, goal_L: Tensor, weight_LD: Tensor, room_LD: Tensor, steps: int
) -> Tensor:
    """The length after so many steps more; all but the weights may have a dimension before L.

    Where looking is free, slots that have settled are left alone: half of them or more by the
    third step.
    """
    part_LD = torch.empty_like(room_LD)
    for left in reversed(range(steps)):
        length_L1 = length_L.unsqueeze(-1)
        torch.minimum(room_LD, length_L1, out=part_LD)
        gap_L = goal_L - part_LD.mul_(weight_LD).sum(dim=-1)
        torch.gt(room_LD, length_L1, out=part_LD)
        slope_L = part_LD.mul_(weight_LD).sum(dim=-1)
        before_L, length_L = length_L, length_L + _step(gap_L, slope_L)
        if is_cheap_to_look_at(length_L):
            moving = (length_L != before_L).flatten().nonzero().squeeze(1)
            if len(moving) == 0:
                break
            if 2 * len(moving) <= length_L.numel():
                flat_L = length_L.flatten()
                settled = _newton(
                    flat_L[moving],
                    goal_L.flatten()[moving],
                    weight_LD.index_select(0, moving % len(weight_LD)),
                    room_LD.flatten(0, -2).index_select(0, moving),
                    left,
                )
                return flat_L.index_copy_(0, moving, settled).view_as(length_L)
    return length_L


def _step(gap_L: Tensor, slope_L: Tensor) -> Tensor:
    """How much further: 0 without slope, where every pixel is at its bound, and where the gap is
    rounding on the solution."""
    return torch.where(slope_L > 0, gap_L / slope_L, 0).clamp_(min=0)
