"""A divergence on images and one on attacked images, both from the teacher's clean prediction.

B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.errors import UserError
from ferd_train.config.checks import require_not_negative, require_one_of
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


@dataclass(frozen=True)
class TwoDivergences:
    """λ1·D(p_T(x_F), p_S(x_F)) + λ2·D(p_T(x_F), p_S(x_U)), the batch mean.

    Attributes:
        divergence: D, a name in `DIVERGENCES`.
        clean_weight: λ1; a term of weight 0 is not computed.
        adversarial_weight: λ2.

    Raises:
        UserError: no such divergence, a negative weight, or both 0.
    """

    divergence: str = "kl"
    clean_weight: float = 5 / 6
    adversarial_weight: float = 1 / 6

    def __post_init__(self) -> None:
        require_one_of(self, "divergence", DIVERGENCES)
        require_not_negative(self, "clean_weight", "adversarial_weight")
        if not self.clean_weight and not self.adversarial_weight:
            raise UserError(
                "clean_weight and adversarial_weight are both 0, so the student learns nothing."
            )

    def per_image(self, teacher_BK: Tensor, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        """D for each image, from logits; shape B."""
        return DIVERGENCES[self.divergence](teacher_BK, student_BK, labels_B)


@dataclass(frozen=True)
class TwoTermsRecipe(PGDLossRecipe):
    """Weights of the two terms. A change among the losses that share them keeps the weights.

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
    def divergences(self) -> TwoDivergences:
        """Both terms."""
        return TwoDivergences("kl", self.clean_weight, self.adversarial_weight)

    @property
    def attack(self) -> KLPGD:
        """The attack on the student."""
        return KLPGD(self.attack_steps, self.step_size)


class TwoTerms(StudentObjective):
    """λ1·D(p_T(x), p_S(x)) + λ2·D(p_T(x), p_S(x_adv)): RSLAD and its descendants.

    Attributes:
        loss: both terms.
    """

    def __init__(self, attack: PGD, loss: TwoDivergences, network: str = "student") -> None:
        """Put together.

        Args:
            attack: makes x_adv; the clean logits it is told are the teacher's.
            loss: both terms.
            network: whose prediction is attacked, of `ATTACKED`.
        """
        self._attack, self.loss, self._network = attack, loss, network

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """x_adv; the images themselves where their term has no weight."""
        if not self.loss.adversarial_weight:
            return batch.x_BCHW
        network = teacher if self._network == "teacher" else student
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
