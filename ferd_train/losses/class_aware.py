"""Base of the losses that treat classes unequally. B batch, C × H × W pixels, K classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch
from ferd_train.losses.divergence import kl
from ferd_train.losses.two_terms import TwoTerms, TwoTermsRecipe
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seams import Remembering


class ClassAware(TwoTerms):
    """KL terms with a weight for each class's images and a temperature for their targets.

    Attributes:
        class_weight_K: of each class's images, in both terms.
        clean_temperature_K, adv_temperature_K: divide the teacher's logits as targets of clean, of
            attacked images.
        tally: of the epoch's images, from which `end_epoch` learns; `tally_name` in saved states.
        state_attributes: those that outlast an epoch, by name in records.
    """

    tally_name: ClassVar[str]
    state_attributes: ClassVar[Mapping[str, str]] = {"weight": "class_weight_K"}

    def __init__(
        self,
        recipe: TwoTermsRecipe,
        num_classes: int,
        *,
        columns: int = 1,
        attack: PGD | None = None,
    ) -> None:
        """All classes alike at first, 1 everywhere; `columns` values of an image are tallied.

        The attack is the recipe's own unless given.
        """
        super().__init__(recipe, attack)
        self.tally = ClassTally(num_classes, columns)
        self.class_weight_K = torch.ones(num_classes, dtype=torch.float64)
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
        terms_B = self.loss.clean_weight * clean_B + self.loss.adversarial_weight * adv_B
        return (self.class_weight_K.to(terms_B)[labels_B] * terms_B).mean()

    @abstractmethod
    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        """Tally values for `end_epoch`, from labels and the student's logits of whole batches."""

    def tallies(self) -> dict[str, Remembering]:
        return {self.tally_name: self.tally}

    def class_state(self) -> dict[str, Tensor]:
        return {name: getattr(self, each) for name, each in self.state_attributes.items()}

    def load_class_state(self, remembered: Mapping[str, Tensor]) -> None:
        for name, attribute in self.state_attributes.items():
            setattr(self, attribute, remembered[name])


class ClassTally:
    """Sums over each class's images, in double precision on the CPU.

    Several processes must gather their batches before.
    """

    def __init__(self, num_classes: int, columns: int = 1) -> None:
        self._sum_KD = torch.zeros(num_classes, columns, dtype=torch.float64)
        self._count_K = torch.zeros(num_classes, dtype=torch.float64)

    def add(self, value_BD: Tensor, labels_B: Tensor) -> None:
        labels_B = labels_B.cpu()
        self._sum_KD.index_add_(0, labels_B, value_BD.detach().double().cpu())
        self._count_K += torch.bincount(labels_B, minlength=len(self._count_K))

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum_KD, "count": self._count_K}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._sum_KD, self._count_K = state["sum"], state["count"]

    def take(self) -> tuple[Tensor, Tensor]:
        """Means K×D, 0 where a class had no image, and whether it had any, K; then start anew."""
        seen_K = self._count_K > 0
        mean_KD = self._sum_KD / self._count_K.clamp(min=1)[:, None]
        self._sum_KD, self._count_K = (torch.zeros_like(x) for x in (self._sum_KD, self._count_K))
        return mean_KD, seen_K


def tempered(logits_BK: Tensor, labels_B: Tensor, temperature_K: Tensor) -> Tensor:
    """Logits divided by the temperature of the image's class, B×K."""
    return logits_BK / temperature_K.to(logits_BK)[labels_B][:, None]
