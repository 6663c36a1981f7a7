"""Recipes of FERD."""

from __future__ import annotations

import dataclasses

from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.recipes.scales import ATTACK_STEP, STUDENT_ATTACK, laboratory
from ferd_train.recipes.student import ReweightingRecipe, StudentRecipe
from ferd_train.synthesis.methods.deepinv import DeepInvRecipe
from ferd_train.synthesis.methods.ferd import FERDRecipe


def ferd_cifar10() -> StudentRecipe:
    """FERD at the paper's scale for CIFAR-10: ResNet-18 or MobileNet-V2 students, 220 epochs.

    Source: arXiv 2509.20793, constants of its section "Implementation details" and, where it gives
    none, of the authors' release. Hardware: one GPU; not measured here. By counting passes an epoch
    is worth some 25 of adversarial training of the teacher on the same 256 images × 400 steps.
    The paper reports for a WideResNet-34-10 teacher and a ResNet-18 student: clean 79.86 (worst
    68.2), PGD 55.10 (worst 38.6).
    """
    return StudentRecipe()


def ferd_cifar100() -> StudentRecipe:
    """FERD at the paper's scale for CIFAR-100: batches of 512.

    Source and hardware as `ferd_cifar10`. The release trains with lr 0.2 here: --set
    distillation.lr=0.2.
    """
    return StudentRecipe(batch_size=512)


def ferd_tiny_imagenet() -> StudentRecipe:
    """FERD at the paper's scale for Tiny-ImageNet: PreActResNet-18 students, batches of 512.

    Source and hardware as `ferd_cifar10`.
    """
    return StudentRecipe(arch="preactresnet18", image_size=64, batch_size=512)


def ferd_lab() -> StudentRecipe:
    """FERD on a laptop: grey 28×28 images, a teacher robust at 0.1, a student of half its width.

    Source: this project; its results are in reports/ferd-lab. Hardware: 2 CPU cores, at most 12
    minutes with the packaged teacher (`--teacher demo`).
    """
    return laboratory(
        variant="ferd",
        synthesis=FERDRecipe(
            steps=60, width=16, inversion=DeepInvRecipe(steps=150, lr=0.05, lambda_oh=20.0)
        ),
        reweighting=ReweightingRecipe(step_size=ATTACK_STEP),
        loss=FERDLossRecipe(**STUDENT_ATTACK),
    )


def ferd_demo() -> StudentRecipe:
    """`ferd-lab` cut short, so that one sees everything happen within five minutes."""
    return dataclasses.replace(ferd_lab(), epochs=8)
