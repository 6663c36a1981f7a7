"""Robust soft labels: Zi et al., "Revisiting adversarial robustness distillation", ICCV 2021."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferd_train.adversary import KLPGD
from ferd_train.distillation.base import WalkingLossRecipe
from ferd_train.distillation.student_loss import StudentLoss
from ferd_train.distillation.two_terms import TwoTerms


@dataclass(frozen=True)
class RSLADRecipe(WalkingLossRecipe):
    """KL from the teacher's clean prediction, on images and on KL-PGD's against the student.

    The authors weigh the attacked images by 5/6 and the clean ones by 1/6; FERD (arXiv 2509.20793,
    equation 11) the other way round, and its baselines perhaps too. Both terms are means over the
    batch, where the authors' code takes means over images and classes: a tenth, for ten classes.

    Attributes:
        clean_weight: of the clean images' term.
        adversarial_weight: of the attacked images' term.
    """

    name: str = field(default="rslad", init=False)
    clean_weight: float = 1 / 6
    adversarial_weight: float = 5 / 6

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.divergences

    @property
    def divergences(self) -> StudentLoss:
        """Both terms."""
        return StudentLoss("kl", self.clean_weight, self.adversarial_weight)

    def build(self, num_classes: int) -> TwoTerms:
        """The loss."""
        return TwoTerms(KLPGD(self.attack_steps, self.step_size), self.divergences)
