"""FERD's loss: equations 10 and 11 of arXiv 2509.20793."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferd_train.distillation.base import WalkingLossRecipe
from ferd_train.distillation.student_loss import StudentLoss
from ferd_train.distillation.two_terms import ATTACKED, TwoTerms
from ferd_train.distillation.utae import UTAE
from ferd_train.fields import require_not_negative, require_one_of


@dataclass(frozen=True)
class FERDLossRecipe(WalkingLossRecipe):
    """Uniform-target adversarial examples, and two divergences from the teacher.

    Attributes:
        gamma: γ; 0 makes plain KL-PGD of the attack.
        network: whose prediction is moved: the teacher's (paper) or the student's (release).
        divergence: from the teacher, a name in `DIVERGENCES`.
        clean_weight: λ1; 5/6 in the paper.
        adversarial_weight: λ2; 1/6 in the paper.
    """

    name: str = field(default="ferd", init=False)
    gamma: float = 0.5
    network: str = "student"
    divergence: str = "kl"
    clean_weight: float = 0.5
    adversarial_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "gamma")
        require_one_of(self, "network", ATTACKED)
        _ = self.divergences

    @property
    def divergences(self) -> StudentLoss:
        """Equation 11."""
        return StudentLoss(self.divergence, self.clean_weight, self.adversarial_weight)

    @property
    def attack(self) -> UTAE:
        """Equation 10."""
        return UTAE(steps=self.attack_steps, step_size=self.step_size, gamma=self.gamma)

    def build(self, num_classes: int) -> TwoTerms:
        """The loss."""
        return TwoTerms(self.attack, self.divergences, self.network)
