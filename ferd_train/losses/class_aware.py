"""What losses have in common that treat classes unequally. B batch, C × H × W pixels, K classes."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch
from ferd_train.losses.divergence import kl
from ferd_train.losses.two_terms import TwoTerms, TwoTermsRecipe
from ferd_train.training.process_group import WHOLE, BatchShard


class ClassAware(TwoTerms):
    """KL terms whose images are weighed, and whose targets are tempered, by class.

    Attributes:
        weight_K: of each class's images, in both terms.
        clean_temperature_K: that divides the teacher's logits where clean images are taught.
        adv_temperature_K: the same where attacked images are.
    """

    def __init__(self, attack: PGD, recipe: TwoTermsRecipe, num_classes: int) -> None:
        """All classes alike at first, 1 everywhere."""
        super().__init__(attack, recipe.divergences)
        self.weight_K = torch.ones(num_classes, dtype=torch.float64)
        self.clean_temperature_K = torch.ones(num_classes, dtype=torch.float64)
        self.adv_temperature_K = torch.ones(num_classes, dtype=torch.float64)

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """Both terms, means over the batch; the student is at temperature 1."""
        teacher_BK, labels_B = share.gather(batch.clean_logits_BK), share.gather(batch.labels_B)
        clean_BK, adv_BK = share.gather(student(batch.x_BCHW)), share.gather(student(adv_BCHW))
        self.observe(labels_B, clean_BK.detach(), adv_BK.detach(), share)
        clean_B = kl(tempered(teacher_BK, labels_B, self.clean_temperature_K), clean_BK)
        adv_B = kl(tempered(teacher_BK, labels_B, self.adv_temperature_K), adv_BK)
        terms_B = self._loss.clean_weight * clean_B + self._loss.adversarial_weight * adv_B
        return (self.weight_K.to(terms_B)[labels_B] * terms_B).mean()

    @abstractmethod
    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        """Note what `end_epoch` needs of a step: labels and the student's logits, whole batches."""


def tempered(logits_BK: Tensor, labels_B: Tensor, temperature_K: Tensor) -> Tensor:
    """Logits divided by the temperature of the image's class, B×K."""
    return logits_BK / temperature_K.to(logits_BK)[labels_B][:, None]
