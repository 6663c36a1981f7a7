"""Uniform-target adversarial examples: equation 10 of FERD (arXiv 2509.20793).

B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from ferd_eval.attacks import Problem, Threat
from ferd_eval.attacks.base import Objective
from ferd_train.adversary import KLPGD
from ferd_train.divergence import kl, kl_from_uniform


@dataclass(frozen=True)
class UTAE(KLPGD):
    """KL-PGD that is also drawn to even predictions, so that it aims at no class in particular.

    Raises KL(p_T(x_F) ‖ p(x)) − γ·KL(U ‖ p(x)) with U = 1/K, from x_F + 0.001·N(0, I). Whose
    prediction p is decided by the network that is attacked: the teacher in the paper, the student
    in the authors' release (where γ = 0). The batch's clean logits are the teacher's either way.

    Attributes:
        gamma: γ; 0 leaves KL-PGD, the ablation ``no-utae``.
    """

    family = "utae"
    objective_name = "KL from the teacher's clean output − γ·KL(U ‖ p)"
    steps: int = 10
    step_size: Fraction | None = Fraction(2, 255)
    gamma: float = 0.5

    def objective(self, problem: Problem) -> Objective:
        """Equation 10's bracket, per image."""
        clean_BK = problem.clean_logits_BK

        def raised(logits_BK: Tensor) -> Tensor:
            divergence_B = kl(clean_BK, logits_BK)
            if self.gamma == 0:
                return divergence_B
            return divergence_B - self.gamma * kl_from_uniform(logits_BK)

        return raised

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """As every walk, and γ."""
        return {**super().constants(threat), "gamma": self.gamma}
