"""No attack, as an attack: the clean figures that every other one is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.problem import Problem


@dataclass(frozen=True)
class Clean(Attack):
    """No perturbation."""

    family = "clean"
    steps = 0

    def perturb(self, problem: Problem) -> Tensor:
        return problem.x_BCHW

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        return 1, 0
