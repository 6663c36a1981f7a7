"""The scales of the baselines' recipes: at each, only the method differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ferd_train.losses.base import LossRecipe
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.recipes.student import DistillationRecipe, ReweightingRecipe, StudentRecipe
from ferd_train.synthesis.base import SynthesisRecipe
from ferd_train.training.augmentation import AugmentationRecipe

#: Step of the attack that class weights are measured with: ε/4.
ATTACK_STEP = Fraction("0.025")
#: The student's attack: 4 steps of ε/2.
STUDENT_ATTACK: Mapping[str, Any] = {"attack_steps": 4, "step_size": 2 * ATTACK_STEP}


@dataclass(frozen=True)
class Tables:
    """A baseline as in FERD's tables for a data set, with its smallest student.

    Student as FERD's (arXiv 2509.20793): 220 epochs of 400 steps; RSLAD's loss, weights 5/6 clean,
    1/6 attacked.
    """

    arch: str
    image_size: int
    batch_size: int

    def student(self, synthesis: SynthesisRecipe) -> StudentRecipe:
        return StudentRecipe(
            arch=self.arch,
            image_size=self.image_size,
            batch_size=self.batch_size,
            variant="none",
            synthesis=synthesis,
            reweighting=ReweightingRecipe(strategy="uniform"),
            loss=RSLADRecipe(clean_weight=5 / 6, adversarial_weight=1 / 6),
        )


CIFAR10 = Tables("resnet18", image_size=32, batch_size=256)
CIFAR100 = Tables("resnet18", image_size=32, batch_size=512)
TINY_IMAGENET = Tables("preactresnet18", image_size=64, batch_size=512)


def laboratory(
    synthesis: SynthesisRecipe,
    *,
    loss: LossRecipe | None = None,
    reweighting: ReweightingRecipe | None = None,
    variant: str = "none",
    epochs: int = 20,
    warmup: int = 2,
) -> StudentRecipe:
    """Grey 28×28 images at ε = 0.1, a student of half the packaged teacher's width, 18 × 80 steps.

    No `loss` is RSLAD's with even weights, the λ1 = λ2 = 1/2 of the variant `ferd`, so that methods
    differ by their images; no `reweighting` draws classes evenly. The `warmup` epochs, part of
    `epochs`, only make images; 18 train the student.
    """
    return StudentRecipe(
        arch="resnet8-w8",
        image_size=28,
        eps=Fraction("0.1"),
        variant=variant,
        epochs=epochs,
        warmup=warmup,
        batch_size=128,
        synthesis=synthesis,
        reweighting=reweighting or ReweightingRecipe(strategy="uniform"),
        loss=loss or RSLADRecipe(clean_weight=0.5, adversarial_weight=0.5, **STUDENT_ATTACK),
        distillation=DistillationRecipe(steps=80),
        augmentation=AugmentationRecipe(crop_padding=2, flip=False),
    )
