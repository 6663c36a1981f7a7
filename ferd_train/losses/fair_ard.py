"""Classes weighed by how few steps it takes to attack them.

Yue et al., "Revisiting adversarial robustness distillation from the perspective of robust
fairness", NeurIPS 2023, in its form for RSLAD and with the constants of its public code.
B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ferd_eval.attacks import Batch, Problem, Threat
from ferd_eval.attacks.problem import Objective
from ferd_train.config.checks import NotNegative, require_ordered
from ferd_train.losses.class_aware import ClassAware
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.losses.two_terms import TwoTermsRecipe
from ferd_train.training.process_group import BatchShard

# Of an attack of ten steps less than one image in a hundred withstands one of them.
_LEAST = 0.01


@dataclass(frozen=True)
class FairARDRecipe(TwoTermsRecipe):
    """RSLAD's two terms, each image weighed by its class.

    κ is the mean number, over a class's images of the last epoch, of the attack's iterates that the
    student still gets right, from the start to the last but one. Weights are κ^−β, scaled to a mean
    of 1, then clamped to [`lowest`, `highest`] (so their mean is no longer 1); 1 in the first
    epoch. The paper takes the least number of steps until the prediction is wrong; its public code
    counts all right iterates, also those after a wrong one, and so does this.

    Deviations: κ is a mean over the images drawn (the public code divides by the size of the data
    set over K); a κ below 1/100 counts as that (there its inverse is infinite and the loss not a
    number); a class without images keeps its weight.

    Attributes:
        beta: β; the paper has 2.
        lowest: weight; 5/6 in the public code.
        highest: weight; 5/2 in the public code.
    """

    name: str = field(default="fair-ard", init=False)
    beta: NotNegative = 2.0
    lowest: NotNegative = 5 / 6
    highest: NotNegative = 5 / 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ordered(self, "lowest", "highest")

    def build(self, num_classes: int) -> FairARD:
        return FairARD(self, num_classes)


@dataclass(frozen=True)
class CountingKLPGD(KLPGD):
    """KL-PGD that notes which images the student still gets right at each iterate.

    Attributes:
        right: B truth values for each iterate so far; emptied before each attack.
    """

    right: list[Tensor] = field(default_factory=list, compare=False)

    def objective(self, problem: Problem) -> Objective:
        divergence = super().objective(problem)

        def noted(logits_BK: Tensor) -> Tensor:
            self.right.append(logits_BK.detach().argmax(dim=1) == problem.labels_B)
            return divergence(logits_BK)

        return noted


class FairARD(ClassAware):
    """Weighs classes anew after each epoch."""

    tally_name = "withstood"

    def __init__(self, recipe: FairARDRecipe, num_classes: int) -> None:
        self._recipe = recipe
        self._counting = CountingKLPGD(recipe.attack_steps, recipe.step_size)
        super().__init__(recipe, num_classes, attack=self._counting)

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """KL-PGD; notes for each image at how many iterates it was still right."""
        self._counting.right.clear()
        return super().examples(teacher, student, batch, threat, seed)

    def observe(
        self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: BatchShard
    ) -> None:
        if self._counting.right:
            withstood_B = torch.stack(self._counting.right).sum(dim=0)
            self.tally.add(share.gather(withstood_B)[:, None], labels_B)

    def end_epoch(self) -> None:
        kappa_KD, seen_K = self.tally.take()
        if bool(seen_K.any()):
            recipe, kappa_K = self._recipe, kappa_KD[seen_K, 0]
            weight_K = fair_weights(kappa_K, recipe.beta, recipe.lowest, recipe.highest)
            self.class_weight_K[seen_K] = weight_K


def fair_weights(kappa_K: Tensor, beta: float, lowest: float, highest: float) -> Tensor:
    """κ^−β over its mean, clamped to two bounds, K."""
    inverse_K = kappa_K.clamp(min=_LEAST) ** -beta
    return (inverse_K / inverse_K.mean()).clamp(lowest, highest)
