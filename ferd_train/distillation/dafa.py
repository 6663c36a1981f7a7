"""Classes weighed by the stronger and weaker classes that they are confused with.

Lee et al., "DAFA: Distance-aware fair adversarial training", ICLR 2024, with the formula of its
public code. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ferd_train.adversary import KLPGD
from ferd_train.distillation.class_aware import ClassAware
from ferd_train.distillation.class_means import ClassMeans
from ferd_train.distillation.two_terms import TwoTermsRecipe
from ferd_train.fields import require_at_least, require_not_negative
from ferd_train.workers import Share


@dataclass(frozen=True)
class DAFARecipe(TwoTermsRecipe):
    """RSLAD's two terms, each image weighed by its class: DAFA-style, for DAFA trains from labels.

    After epoch `warmup` of the run, once: with p_ij the mean probability that the student gives
    class j on attacked images of class i in that epoch,
    W_i = 1 + λ Σ_{j≠i} sign(p_jj − p_ii)·p_ij·p_jj.

    Deviations: DAFA also scales each class's ε and step size by W_i, which would train for another
    ball than is scored; here the weights alone are used. Classes that are equally strong leave each
    other alone (the public code takes both down). In the paper λ is 1 and training has 110 epochs,
    of which 70 are the warm-up.

    Attributes:
        scale: λ.
        warmup: epochs of the run with even weights.
    """

    name: str = field(default="dafa", init=False)
    scale: float = 1.0
    warmup: int = 70

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "scale")
        require_at_least(self, 1, "warmup")

    def build(self, num_classes: int) -> DAFA:
        """The loss, with even weights."""
        return DAFA(self, num_classes)


class DAFA(ClassAware):
    """Weighs classes once."""

    def __init__(self, recipe: DAFARecipe, num_classes: int) -> None:
        super().__init__(KLPGD(recipe.attack_steps, recipe.step_size), recipe, num_classes)
        self._recipe, self._epoch = recipe, 0
        self._predicted = ClassMeans(num_classes, columns=num_classes)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Note which epoch it is."""
        self._epoch = epoch

    def observe(self, labels_B: Tensor, clean_BK: Tensor, adv_BK: Tensor, share: Share) -> None:
        """What attacked images are taken for, in the epoch that decides."""
        if self._epoch == self._recipe.warmup:
            self._predicted.add(adv_BK.softmax(dim=1), labels_B)

    def end_epoch(self) -> None:
        """The weights, after the last even epoch; even ones if a class did not come in it."""
        similarity_KK, seen_K = self._predicted.take()
        if bool(seen_K.all()):
            self.weight_K = distance_aware_weights(similarity_KK, self._recipe.scale)

    def per_class(self) -> dict[str, Tensor]:
        """The weights."""
        return {"weight": self.weight_K}

    def load_per_class(self, remembered: Mapping[str, Tensor]) -> None:
        """Go on with them."""
        self.weight_K = remembered["weight"]


def distance_aware_weights(similarity_KK: Tensor, scale: float) -> Tensor:
    """W of `DAFARecipe`, K, from mean probabilities by true class, row, and seen class, column."""
    strength_K = similarity_KK.diagonal()
    direction_KK = torch.sign(strength_K[None, :] - strength_K[:, None])
    return 1 + scale * (direction_KK * similarity_KK * strength_K[None, :]).sum(dim=1)
