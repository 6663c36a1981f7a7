"""A divergence on images and one on attacked images, both from the teacher's clean prediction.

B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.errors import UserError
from ferd_train.config.checks import NotNegative
from ferd_train.losses.base import PGDLossRecipe, StudentObjective
from ferd_train.losses.divergence import improved_kl, kl, soft_cross_entropy
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.training.process_group import WHOLE, BatchShard

#: Networks that images can be made against.
ATTACKED = ("teacher", "student")

#: From teacher's logits, student's logits and labels to a value for each image, by name. The
#: release's soft cross-entropy has the gradient of KL.
DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kl": lambda teacher_BK, student_BK, labels_B: kl(teacher_BK, student_BK),
    "soft-cross-entropy": lambda teacher_BK, student_BK, labels_B: soft_cross_entropy(
        teacher_BK, student_BK
    ),
    "ikl": improved_kl,
}


class TwoDivergencesRecipe(PGDLossRecipe):
    """λ1·D(p_T(x), p_S(x)) + λ2·D(p_T(x), p_S(x_adv)), the batch mean.

    Attributes:
        network: whose prediction is attacked, of `ATTACKED`.
        clean_weight: λ1, a field of the subclass; a term of weight 0 is not computed.
        adversarial_weight: λ2.

    Raises:
        UserError: both weights are 0.
    """

    network: str = "student"
    clean_weight: float
    adversarial_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.clean_weight and not self.adversarial_weight:
            raise UserError(
                "clean_weight and adversarial_weight are both 0, so the student learns nothing."
            )

    def per_image(self, teacher_BK: Tensor, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        """D for each image, from logits; shape B."""
        return kl(teacher_BK, student_BK)

    @property
    def attack(self) -> PGD:
        """Makes x_adv; the clean logits it is told are the teacher's."""
        return KLPGD(self.attack_steps, self.step_size)

    def build(self, num_classes: int) -> StudentObjective:
        return TwoTerms(self)


@dataclass(frozen=True)
class TwoTermsRecipe(TwoDivergencesRecipe):
    """Weights of the two terms. A change among the losses that share them keeps the weights."""

    clean_weight: NotNegative = 1 / 6
    adversarial_weight: NotNegative = 5 / 6


class TwoTerms(StudentObjective):
    """λ1·D(p_T(x), p_S(x)) + λ2·D(p_T(x), p_S(x_adv)): RSLAD and its descendants.

    Attributes:
        loss: both terms.
    """

    def __init__(self, loss: TwoDivergencesRecipe, attack: PGD | None = None) -> None:
        self.loss, self._attack = loss, attack or loss.attack

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """x_adv; the images themselves where their term has no weight."""
        if not self.loss.adversarial_weight:
            return batch.x_BCHW
        network = teacher if self.loss.network == "teacher" else student
        return self._attack.examples(network, batch, threat, seed=seed, passes=Passes())

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """Both terms, batch means.

        The student sees two batches, the clean one first, each with batch statistics of its own.
        """
        teacher_BK, labels_B = share.gather(batch.clean_logits_BK), share.gather(batch.labels_B)
        parts = ((self.loss.clean_weight, batch.x_BCHW), (self.loss.adversarial_weight, adv_BCHW))
        terms = [
            weight * self.loss.per_image(teacher_BK, share.gather(student(x_BCHW)), labels_B).mean()
            for weight, x_BCHW in parts
            if weight
        ]
        return sum(terms[1:], start=terms[0])
