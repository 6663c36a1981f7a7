"""Classes weighed by Hedge: those that the student loses under attack count for more.

Li and Liu, "WAT: Improve the worst-class robustness in adversarial training", AAAI 2023 (arXiv
2302.04025). B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from ferd_train.config.checks import NotNegative, at_least
from ferd_train.losses.class_aware import ClassAware
from ferd_train.losses.two_terms import TwoTermsRecipe
from ferd_train.training.process_group import BatchShard


@dataclass(frozen=True)
class WATRecipe(TwoTermsRecipe):
    """RSLAD's two terms, each image weighed by its class: WAT-style, for WAT trains from labels.

    All weights are 1 at first. After each epoch a class's weight is multiplied by
    exp(η·(e − mean e)), e its share of attacked images that the student got wrong, scaled to a mean
    of 1, then clamped to at most `highest`.

    Deviations: WAT weighs by the losses on real images held out for it, once an epoch, and there
    are none here, so errors are those on the images trained on; errors in place of losses keep a
    step of the weights within a factor of e^η; WAT has no bound.

    Attributes:
        rate: η.
        highest: weight.
    """

    name: str = field(default="wat", init=False)
    rate: NotNegative = 0.5
    highest: Annotated[float, at_least(1)] = 4.0

    def build(self, num_classes: int) -> WAT:
        return WAT(self, num_classes)


class WAT(ClassAware):
    """Weighs classes anew after each epoch."""

    tally_name = "lost"

    def __init__(self, recipe: WATRecipe, num_classes: int) -> None:
        super().__init__(recipe, num_classes)
        self._recipe = recipe

    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        self.tally.add((adv_BK.argmax(dim=1) != labels_B)[:, None], labels_B)

    def end_epoch(self) -> None:
        lost_KD, seen_K = self.tally.take()
        if bool(seen_K.any()):
            recipe, lost_K = self._recipe, lost_KD[seen_K, 0]
            weight_K = self.class_weight_K.clone()
            weight_K[seen_K] *= torch.exp(recipe.rate * (lost_K - lost_K.mean()))
            self.class_weight_K = (weight_K / weight_K.mean()).clamp(max=recipe.highest)
