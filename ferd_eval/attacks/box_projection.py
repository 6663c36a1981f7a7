"""The nearest point of a hyperplane, in L∞, that is still an image.

L lanes, D pixels of an image (all channels); every row on its own.
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
    Management Science 1967, has the same iteration). Hence no sort, and no look at the values,
    for which an accelerator would have to wait.

    A plane that no image reaches is approached as far as the pixel range allows. Pixels without
    weight stay where they are.

    Args:
        at_LD: points with all pixels in [0, 1].
        normal_LD: w, normal to the plane.
        level_L: how far above the plane each point is, in units of ⟨w, x⟩; negative if below.

    Returns:
        The moves δ, L×D.
    """
    direction_LD = -level_L.sign().unsqueeze(1) * normal_LD.sign()
    room_LD = torch.where(direction_LD > 0, 1 - at_LD, at_LD)
    weight_LD = normal_LD.abs()
    goal_L1 = level_L.abs().unsqueeze(1)
    length_L1 = torch.zeros_like(goal_L1)
    for _ in range(_NEWTON_STEPS):
        covered_LD = weight_LD * torch.minimum(room_LD, length_L1)
        gap_L1 = goal_L1 - covered_LD.sum(dim=1, keepdim=True)
        slope_L1 = torch.where(room_LD > length_L1, weight_LD, 0).sum(dim=1, keepdim=True)
        # No slope: every pixel is at its bound. A gap below 0 is rounding on the solution.
        length_L1 = length_L1 + torch.where(slope_L1 > 0, gap_L1 / slope_L1, 0).clamp_(min=0)
    return direction_LD * torch.minimum(room_LD, length_L1)
