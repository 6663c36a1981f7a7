"""FERD's loss: equations 10 and 11 of arXiv 2509.20793."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any

from torch import Tensor

from ferd_eval.attacks import Problem, Threat
from ferd_eval.attacks.problem import Objective
from ferd_train.config.checks import NotNegative, OneOf
from ferd_train.losses.divergence import kl, kl_from_uniform
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.losses.two_terms import ATTACKED, DIVERGENCES, TwoDivergencesRecipe


@dataclass(frozen=True)
class FERDLossRecipe(TwoDivergencesRecipe):
    """Uniform-target adversarial examples, and two divergences from the teacher.

    Attributes:
        gamma: γ; 0 makes plain KL-PGD of the attack.
        network: that is attacked: the teacher (paper) or the student (release).
        divergence: from the teacher, a name in `DIVERGENCES`.
        clean_weight: λ1; 5/6 in the paper.
        adversarial_weight: λ2; 1/6 in the paper.
    """

    name: str = field(default="ferd", init=False)
    gamma: NotNegative = 0.5
    network: Annotated[str, OneOf(ATTACKED)] = "student"
    divergence: Annotated[str, OneOf(DIVERGENCES)] = "kl"
    clean_weight: NotNegative = 0.5
    adversarial_weight: NotNegative = 0.5

    def per_image(self, teacher_BK: Tensor, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        return DIVERGENCES[self.divergence](teacher_BK, student_BK, labels_B)

    @property
    def attack(self) -> UTAE:
        return UTAE(steps=self.attack_steps, step_size=self.step_size, gamma=self.gamma)


@dataclass(frozen=True)
class UTAE(KLPGD):
    """KL-PGD that also favours even predictions, so that it aims at no class in particular.

    Raises KL(p_T(x_F) ‖ p(x)) − γ·KL(U ‖ p(x)) with U = 1/K, from x_F + 0.001·N(0, I). p is the
    attacked network's: the teacher's in the paper, the student's in the authors' release (where
    γ = 0). The batch's clean logits are the teacher's either way.

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
        return {**super().constants(threat), "gamma": self.gamma}
