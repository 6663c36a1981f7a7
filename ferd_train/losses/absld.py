"""Anti-bias soft labels: sharper for the classes that are learnt worse.

Zhao et al., "Improving adversarial robust fairness via anti-bias soft label distillation",
NeurIPS 2024, with the constants of its public code. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import Batch, Threat
from ferd_train.config.checks import NotNegative, Positive, require_ordered
from ferd_train.losses.class_aware import ClassAware, tempered
from ferd_train.losses.two_terms import TwoTermsRecipe
from ferd_train.training.process_group import BatchShard

# Of the risks: smaller gaps are rounding errors of the mean, and would become a whole step.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ABSLDRecipe(TwoTermsRecipe):
    """RSLAD's two terms, the teacher's logits divided by a temperature of the image's class.

    Clean and attacked images have temperatures of their own, 1 at first. After each epoch a class's
    temperature falls by `rate` times how far its mean cross-entropy lies above the mean of the
    classes, over the largest such distance, and is held between `coldest` and `hottest`. The attack
    moves away from the softened labels of the attacked images.

    Deviations: mean cross-entropies over the images drawn (the public code takes sums, for
    classes of equal size); both temperatures are applied to the teacher's own logits (in the public
    code both names are one tensor, which is divided by the one and then by the other); the rate
    stays (it falls with the learning rate there); a class without images keeps its temperature.

    Attributes:
        rate: of the temperatures.
        coldest: temperature.
        hottest: temperature.
    """

    name: str = field(default="absld", init=False)
    rate: NotNegative = 0.1
    coldest: Positive = 0.5
    hottest: NotNegative = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ordered(self, "coldest", "hottest")

    def build(self, num_classes: int) -> ABSLD:
        return ABSLD(self, num_classes)


class ABSLD(ClassAware):
    """Updates the temperatures of the teacher's labels after each epoch."""

    tally_name = "risks"
    state_attributes: ClassVar[Mapping[str, str]] = {
        "clean temperature": "clean_temperature_K",
        "adversarial temperature": "adv_temperature_K",
    }

    def __init__(self, recipe: ABSLDRecipe, num_classes: int) -> None:
        super().__init__(recipe, num_classes, columns=2)
        self._recipe = recipe

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """KL-PGD, away from the softened labels of the attacked images."""
        softened_BK = tempered(batch.clean_logits_BK, batch.labels_B, self.adv_temperature_K)
        softened = replace(batch, clean_logits_BK=softened_BK)
        return super().examples(teacher, student, softened, threat, seed)

    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        risks = [cross_entropy(z_BK, labels_B, reduction="none") for z_BK in (clean_BK, adv_BK)]
        self.tally.add(torch.stack(risks, dim=1), labels_B)

    def end_epoch(self) -> None:
        recipe, (risk_KD, seen_K) = self._recipe, self.tally.take()
        temperatures = (self.clean_temperature_K, self.adv_temperature_K)
        for column, temperature_K in enumerate(temperatures):
            step_K = recipe.rate * relative_gap(risk_KD[seen_K, column])
            moved_K = temperature_K[seen_K] - step_K
            temperature_K[seen_K] = moved_K.clamp(recipe.coldest, recipe.hottest)


def relative_gap(risk_K: Tensor) -> Tensor:
    """Distance of each class from the mean of the classes, over the largest; 0 where all agree."""
    gap_K = risk_K - risk_K.mean()
    largest = gap_K.abs().max() if len(gap_K) else gap_K.new_zeros(())
    noise = _ROUNDING * risk_K.abs().max() if len(gap_K) else largest
    return gap_K / largest if largest > noise else torch.zeros_like(gap_K)
