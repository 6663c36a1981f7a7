"""A divergence on images and one on attacked images, both from the teacher's clean prediction.

B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_train.distillation.base import StudentObjective, WalkingLossRecipe
from ferd_train.distillation.student_loss import StudentLoss
from ferd_train.workers import WHOLE, Share

#: Networks that images can be made against.
ATTACKED = ("teacher", "student")


@dataclass(frozen=True)
class TwoTermsRecipe(WalkingLossRecipe):
    """Weights of the two terms; of losses that share them, each keeps those of the one before.

    Attributes:
        clean_weight: of the clean images' term.
        adversarial_weight: of the attacked images' term.
    """

    clean_weight: float = 1 / 6
    adversarial_weight: float = 5 / 6

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.divergences

    @property
    def divergences(self) -> StudentLoss:
        """Both terms."""
        return StudentLoss("kl", self.clean_weight, self.adversarial_weight)


class TwoTerms(StudentObjective):
    """λ1·D(p_T(x), p_S(x)) + λ2·D(p_T(x), p_S(x_adv)): RSLAD and its descendants."""

    def __init__(self, attack: PGD, loss: StudentLoss, network: str = "student") -> None:
        """Put together.

        Args:
            attack: makes x_adv; the clean logits it is told are the teacher's.
            loss: both terms.
            network: whose prediction is moved, of `ATTACKED`.
        """
        self._attack, self._loss, self._network = attack, loss, network

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """x_adv; the images themselves where their term has no weight."""
        if not self._loss.adversarial_weight:
            return batch.x_BCHW
        network = teacher if self._network == "teacher" else student
        return self._attack.examples(network, batch, threat, seed=seed, passes=Passes())

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: Share = WHOLE
    ) -> Tensor:
        """Both terms, batch means."""
        return self._loss(
            student, batch.x_BCHW, adv_BCHW, batch.clean_logits_BK, batch.labels_B, share
        )
