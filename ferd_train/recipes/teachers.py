"""Recipes of robust teachers."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from ferd_train.recipes.teacher import TeacherRecipe


def cifar10_resnet18() -> TeacherRecipe:
    """ResNet-18 on CIFAR-10 at 8/255 by PGD-AT: the usual small robust teacher.

    Source: Madry et al. 2018 with the one-cycle schedule of Rice et al. 2020 shortened. Hardware:
    one GPU; not measured here (about 2 h on a 2020s data-centre card by pass counts).
    """
    return TeacherRecipe(
        dataset="cifar10",
        arch="resnet18",
        eps=Fraction(8, 255),
        inner_step=Fraction(2, 255),
        inner_steps=10,
        epochs=60,
        lr=0.1,
        crop_padding=4,
        flip=True,
        ema_decay=0.999,
    )


def demo_resnet8() -> TeacherRecipe:
    """ResNet-8 on Fashion-MNIST at ε = 0.1: the larger of the two packaged networks."""
    return TeacherRecipe(
        dataset="fashion-mnist",
        arch="resnet8",
        eps=Fraction("0.1"),
        inner_step=Fraction("0.04"),
        inner_steps=4,
        epochs=6,
    )


def demo_cnn() -> TeacherRecipe:
    """A three-layer CNN on Fashion-MNIST at ε = 0.1: the smaller of the two packaged networks."""
    return dataclasses.replace(demo_resnet8(), arch="cnn28-16", epochs=15)
