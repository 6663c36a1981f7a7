"""A divergence on images and one on attacked images, both from the teacher's clean prediction.

B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.errors import UserError, did_you_mean
from ferd_train.losses.base import PGDLossRecipe, StudentObjective
from ferd_train.losses.divergence import (
    class_mean_probabilities,
    kl,
    pairwise_gap,
    soft_cross_entropy,
)
from ferd_train.training.process_group import WHOLE, BatchShard

#: Networks that images can be made against.
ATTACKED = ("teacher", "student")


@dataclass(frozen=True)
class TwoTermsRecipe(PGDLossRecipe):
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
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """Both terms, batch means."""
        return self._loss(
            student, batch.x_BCHW, adv_BCHW, batch.clean_logits_BK, batch.labels_B, share
        )


def improved_kl(
    teacher_BK: Tensor,
    student_BK: Tensor,
    labels_B: Tensor,
    *,
    pairwise_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
) -> Tensor:
    """IKL of Cui et al., NeurIPS 2024, equation 7, shape B; the later version of FERD uses it.

    ¼ of the squared pairwise differences of the logits, with gradient, weighed by the mean
    prediction of the image's class, and the soft cross-entropy. The teacher's means are taken over
    the batch; they are constants.

    Args:
        teacher_BK: logits.
        student_BK: logits.
        labels_B: of the images.
        pairwise_weight: β of the authors' code; 1 is equation 7.
        cross_entropy_weight: α of their code.
    """
    weights_BK = class_mean_probabilities(teacher_BK.detach(), labels_B)
    pairwise_B = pairwise_gap(teacher_BK, student_BK, weights_BK)
    crossed_B = soft_cross_entropy(teacher_BK, student_BK)
    return pairwise_weight * pairwise_B + cross_entropy_weight * crossed_B


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
class StudentLoss:
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
        if self.divergence not in DIVERGENCES:
            raise UserError(
                f"no divergence is called {self.divergence!r}."
                f"{did_you_mean(self.divergence, DIVERGENCES)}"
            )
        for name in ("clean_weight", "adversarial_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if not self.clean_weight and not self.adversarial_weight:
            raise UserError(
                "clean_weight and adversarial_weight are both 0, so the student learns nothing."
            )

    def per_image(self, teacher_BK: Tensor, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        """D for each image, from logits; shape B."""
        return DIVERGENCES[self.divergence](teacher_BK, student_BK, labels_B)

    def __call__(
        self,
        student: nn.Module,
        clean_BCHW: Tensor,
        adv_BCHW: Tensor,
        teacher_BK: Tensor,
        labels_B: Tensor,
        share: BatchShard = WHOLE,
    ) -> Tensor:
        """The loss of a batch, a scalar.

        The student is in train mode and sees two batches, the clean one first, each with batch
        statistics of its own.

        Args:
            student: images to logits.
            clean_BCHW: x_F.
            adv_BCHW: x_U.
            teacher_BK: the teacher's logits on x_F, without gradient.
            labels_B: the classes x_F was made for.
            share: of the batch, that all these are; the loss is then the whole batch's.
        """
        teacher_BK, labels_B = share.gather(teacher_BK), share.gather(labels_B)
        parts = ((self.clean_weight, clean_BCHW), (self.adversarial_weight, adv_BCHW))
        terms = [
            weight * self.per_image(teacher_BK, share.gather(student(x_BCHW)), labels_B).mean()
            for weight, x_BCHW in parts
            if weight
        ]
        return sum(terms[1:], start=terms[0])
