"""Recipes of robust teachers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated

from ferd_train.config.checks import Count, CountFromZero, NotNegative, OneOf, Positive, Seed, Share
from ferd_train.config.recipe import RunRecipe
from ferd_train.training.precision import PRECISIONS

#: Names of the losses; `ferd_train.adversarial_training.losses` makes them.
LOSS_NAMES = ("pgd-at", "trades")


@dataclass(frozen=True)
class TeacherRecipe(RunRecipe):
    """Adversarial training of a network from data.

    Attributes:
        dataset: name for `ferd_eval.load_dataset`; its training split is used.
        arch: registered architecture.
        loss: ``"pgd-at"`` (Madry et al., ICLR 2018) or ``"trades"`` (Zhang et al., ICML 2019).
        eps: radius of the L∞ ball in the pixel range [0, 1].
        inner_steps: signed gradient steps of the inner attack.
        inner_step: length of one, in the pixel range.
        trades_beta: weight of the robust term of TRADES; unused by PGD-AT.
        epochs: passes over the training part.
        batch_size: images per optimiser step.
        lr: peak of the one-cycle schedule (SGD with Nesterov momentum).
        momentum: of SGD.
        weight_decay: of SGD, on all parameters.
        crop_padding: random-crop padding in pixels; 0 for no cropping.
        flip: mirror images at random.
        ema_decay: decay per step of the averaged weights, which are what is saved.
        validation_per_class: training images of each class held out, the last in file order.
        precision: of the training steps: float32, tf32 or bfloat16. Validation is always exact.
        seed: of initial weights, order, augmentation and attacks.
    """

    dataset: str
    arch: str
    eps: Fraction
    inner_step: Fraction
    loss: Annotated[str, OneOf(LOSS_NAMES)] = "pgd-at"
    inner_steps: Count = 5
    trades_beta: NotNegative = 6.0
    epochs: Count = 10
    batch_size: Count = 128
    lr: Positive = 0.2
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    crop_padding: CountFromZero = 0
    flip: bool = False
    ema_decay: Share = 0.995
    validation_per_class: Count = 100
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    seed: Seed = 0


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


def cifar10_wideresnet34() -> TeacherRecipe:
    """WideResNet-34-10 on CIFAR-10 at 8/255 by PGD-AT: the teacher of FERD's tables.

    Source: FERD (arXiv 2509.20793) names the architecture alone; everything else is as in
    `cifar10_resnet18`. Hardware: one GPU; not measured here. A pass has 12 times the operations of
    its ResNet-18's (13.3 and 1.11 GFLOP an image, counted).
    """
    return replace(cifar10_resnet18(), arch="wideresnet-34-10")


def cifar100_wideresnet34() -> TeacherRecipe:
    """WideResNet-34-10 on CIFAR-100 at 8/255 by PGD-AT: the teacher of FERD's tables.

    Source and hardware as `cifar10_wideresnet34`. 100 images of each class are held out, a fifth.
    """
    return replace(cifar10_wideresnet34(), dataset="cifar100")


def tiny_imagenet_preactresnet34() -> TeacherRecipe:
    """PreActResNet-34 on Tiny-ImageNet at 8/255 by PGD-AT: the teacher of FERD's tables.

    Source as `cifar10_wideresnet34`. Hardware: one GPU; not measured here.
    """
    return replace(cifar10_resnet18(), dataset="tiny-imagenet", arch="preactresnet34")


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
    return replace(demo_resnet8(), arch="cnn28-16", epochs=15)
