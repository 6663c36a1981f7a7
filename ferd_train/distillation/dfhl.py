"""Hard labels on high-entropy examples: Yuan et al., "Data-free hard-label robustness stealing
attack", AAAI 2024. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import Batch, Passes, Problem, Threat
from ferd_eval.attacks.base import Objective
from ferd_train.adversary import KLPGD
from ferd_train.distillation.base import LossRecipe, StudentObjective
from ferd_train.distillation.strong_augmentation import strong_augmentation
from ferd_train.fields import require_at_least
from ferd_train.workers import WHOLE, Share

# A ball that holds every image in [0, 1]: the walk is bounded by the pixel range alone.
_ANYWHERE = Threat(Fraction(1))


def entropy(logits_BK: Tensor) -> Tensor:
    """−Σ_k p_k ln p_k of the softmaxes, shape B."""
    return -(logits_BK.softmax(dim=1) * logits_BK.log_softmax(dim=1)).sum(dim=1)


@dataclass(frozen=True)
class HighEntropy(KLPGD):
    """A walk by signed gradients that raises the entropy of the prediction, from x + 0.001·N."""

    family = "hee"
    objective_name = "entropy"
    steps: int = 10
    step_size: Fraction | None = Fraction(3, 100)

    def objective(self, problem: Problem) -> Objective:
        """Entropy of the prediction, per image."""
        return entropy


@dataclass(frozen=True)
class DFHLLossRecipe(LossRecipe):
    """Cross-entropy to the class that the teacher sees in high-entropy examples.

    The walk is no attack within a ball: 10 steps of 0.03 lead up to 0.3 away. The values are those
    of the authors' release, for CIFAR.

    Attributes:
        steps: of the walk.
        step_size: length of one.
    """

    name: str = field(default="dfhl", init=False)
    steps: int = 10
    step_size: Fraction = Fraction(3, 100)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps")

    @property
    def walk_steps(self) -> int:
        """Those of the walk."""
        return self.steps

    def build(self, num_classes: int) -> HardLabels:
        """The loss."""
        return HardLabels(HighEntropy(self.steps, self.step_size))


class HardLabels(StudentObjective):
    """CE(p_S(x_HEE), argmax p_T(x_HEE)); nothing is asked of the student on the images as such.

    Of the teacher only the class it sees is used, and only on what the student is taught with.
    """

    def __init__(self, walk: HighEntropy) -> None:
        self._walk = walk
        self._seen: tuple[Tensor, Tensor] | None = None

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """High-entropy examples near strongly augmented images; the ball is not looked at."""
        strong_BCHW = strong_augmentation(batch.x_BCHW, seed, batch.indices_B)
        strong = Batch(strong_BCHW, batch.labels_B, batch.indices_B, batch.clean_logits_BK)
        hee_BCHW = self._walk.examples(student, strong, _ANYWHERE, seed=seed, passes=Passes())
        with torch.no_grad():
            self._seen = hee_BCHW, teacher(hee_BCHW).argmax(dim=1)
        return hee_BCHW

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: Share = WHOLE
    ) -> Tensor:
        """Cross-entropy, the batch mean."""
        assert self._seen is not None, "examples come first"
        hee_BCHW, classes_B = self._seen
        assert adv_BCHW is hee_BCHW, "the teacher was asked about other examples"
        return cross_entropy(share.gather(student(adv_BCHW)), share.gather(classes_B))
