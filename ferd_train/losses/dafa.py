"""Classes weighed by the stronger and weaker classes that they are confused with.

Lee et al., "DAFA: Distance-aware fair adversarial training", ICLR 2024, with the formula of its
public code. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from ferd_eval.errors import UserError
from ferd_train.config.checks import Bound, NotNegative, Share
from ferd_train.losses.class_aware import ClassAware
from ferd_train.losses.two_terms import TwoTermsRecipe
from ferd_train.training.process_group import BatchShard

# Σ_{j≠i} p_ij·p_jj over weaker classes j is less than (1 − p_ii)·p_ii, so at most 1/4.
_SCALES = Bound(lambda scale: scale < 4, "less than 4, so that every class weighs something")


@dataclass(frozen=True)
class DAFARecipe(TwoTermsRecipe):
    """RSLAD's two terms, each image weighed by its class: DAFA-style, for DAFA trains from labels.

    Once in the run: with p_ij the mean probability that the student gives class j on attacked
    images of class i in the epoch that decides, W_i = 1 + λ Σ_{j≠i} sign(p_jj − p_ii)·p_ij·p_jj.
    Weights lie from 1 − λ/4 to 1 + λ; their mean is not 1.

    Deviations: DAFA also scales each class's ε and step size by W_i, which would train for another
    ball than is scored; here the weights alone are used. The public code contradicts itself about
    what they weigh: its TRADES the cross-entropy of clean images only, not KL; its PGD training
    the attacked images, whose ε however is clipped to the common one after a second, unscaled step.
    Here they weigh both terms. Equally strong classes leave each other alone (the public code takes
    both down); a class without images keeps the weight 1. The public code decides after epoch 70 of
    110, a share that is kept for runs of any length.

    Attributes:
        scale: λ; 1 in the public code.
        even_share: of the run's epochs, to the nearest one, whose weights are even; 7/11 in the
            public code.
    """

    name: str = field(default="dafa", init=False)
    scale: Annotated[NotNegative, _SCALES] = 1.0
    even_share: Share = 7 / 11

    def even_epochs(self, epochs: int) -> int:
        """The epoch of the run that decides, counted from 1."""
        return round(self.even_share * epochs)

    def require_epochs(self, warmup: int, epochs: int) -> None:
        """The epoch that decides must teach, and another one must follow."""
        decides = self.even_epochs(epochs)
        if not warmup < decides < epochs:
            raise UserError(
                f"loss.even_share is {self.even_share:g}, so classes would be weighed after epoch "
                f"{decides} of {epochs}, but warmup is {warmup}: give a share for which this epoch "
                "lies after the warm-up and before the last, or raise epochs."
            )

    def build(self, num_classes: int) -> DAFA:
        return DAFA(self, num_classes)


class DAFA(ClassAware):
    """Weighs classes once, after the epoch that decides."""

    tally_name = "predicted"

    def __init__(self, recipe: DAFARecipe, num_classes: int) -> None:
        super().__init__(recipe, num_classes, columns=num_classes)
        self._recipe, self._decides = recipe, False

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self._decides = epoch == self._recipe.even_epochs(epochs)

    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        if self._decides:
            self.tally.add(adv_BK.softmax(dim=1), labels_B)

    def end_epoch(self) -> None:
        similarity_KK, seen_K = self.tally.take()
        seen_KK = similarity_KK[seen_K][:, seen_K]
        self.class_weight_K[seen_K] = distance_aware_weights(seen_KK, self._recipe.scale)


def distance_aware_weights(similarity_KK: Tensor, scale: float) -> Tensor:
    """W of `DAFARecipe`, K, from mean probabilities by true class, row, and seen class, column."""
    strength_K = similarity_KK.diagonal()
    direction_KK = torch.sign(strength_K[None, :] - strength_K[:, None])
    return 1 + scale * (direction_KK * similarity_KK * strength_K[None, :]).sum(dim=1)
