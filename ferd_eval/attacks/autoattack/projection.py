"""The nearest point of a hyperplane, in L∞, that is still an image.

L slots, D pixels of an image (all channels); every row on its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
        at_LD: points with all pixels in [0, 1].
        normal_LD: w, normal to the plane.
        level_L: how far above the plane each point is, in units of ⟨w, x⟩; negative if below.

    Returns:
        The moves δ, L×D.
    """
    direction_LD = torch.where((level_L > 0).unsqueeze(1), -normal_LD, normal_LD).sign_()
    room_LD = torch.where(direction_LD > 0, 1 - at_LD, at_LD)
    weight_LD = normal_LD.abs()
    goal_L = level_L.abs()
    length_L = torch.zeros_like(goal_L)
    used_LD, free_LD = torch.empty_like(room_LD), torch.empty_like(room_LD)
    for _ in range(_NEWTON_STEPS):
        torch.minimum(room_LD, length_L.unsqueeze(1), out=used_LD)
        torch.gt(room_LD, length_L.unsqueeze(1), out=free_LD)
        gap_L = goal_L - torch.linalg.vecdot(weight_LD, used_LD)
        slope_L = torch.linalg.vecdot(weight_LD, free_LD)
        # No slope: every pixel is at its bound. A gap below 0 is rounding on the solution.
        further_L = torch.where(slope_L > 0, gap_L / slope_L, 0).clamp_(min=0)
        before_L, length_L = length_L, length_L + further_L
        if length_L.device.type == "cpu" and torch.equal(length_L, before_L):
            break  # so would all steps to come; looking is free on a CPU
    return direction_LD * torch.minimum(room_LD, length_L.unsqueeze(1))
