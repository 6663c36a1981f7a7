"""Recipes that learn from the training data: the ceiling of data-free students."""

from __future__ import annotations

from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.recipes.scales import laboratory
from ferd_train.recipes.student import DistillationRecipe, ReweightingRecipe, StudentRecipe
from ferd_train.synthesis.methods.real import RealRecipe


def rslad_lab() -> StudentRecipe:
    """Not data-free: the laboratory's student and loss on Fashion-MNIST's training images.

    Source: this project. As many student steps as `ferd-lab`, so three passes over the data.
    """
    return laboratory(RealRecipe(dataset="fashion-mnist"), epochs=18, warmup=0)


def rslad_cifar10() -> StudentRecipe:
    """Not data-free: RSLAD on CIFAR-10, ResNet-18 students, 300 epochs of batches of 128.

    Source: Zi et al., ICCV 2021 and the authors' code: 5/6 on attacked images, 10 steps of 2/255,
    SGD 0.1, weight decay 2e-4. Deviations: the loss is the batch mean (theirs a tenth of it), and
    the learning rate falls by a cosine (theirs by tenths). 383 steps an epoch are a pass over the
    49 000 images that are not held out. Not measured here.
    """
    return StudentRecipe(
        variant="none",
        epochs=300,
        warmup=0,
        batch_size=128,
        synthesis=RealRecipe(dataset="cifar10"),
        reweighting=ReweightingRecipe(strategy="uniform"),
        loss=RSLADRecipe(),
        distillation=DistillationRecipe(steps=383, weight_decay=2e-4),
    )
