"""Recipes are functions: each returns a full configuration and says what it costs and gives."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from ferd_eval.errors import UserError, did_you_mean
from ferd_train.augment import AugmentationRecipe
from ferd_train.distillation import FERDLossRecipe
from ferd_train.fields import Recipe, read_toml
from ferd_train.student_recipe import DistillationRecipe, ReweightingRecipe, StudentRecipe
from ferd_train.synthesis import FERDRecipe
from ferd_train.teacher_recipe import TeacherRecipe

R = TypeVar("R", bound=Recipe)


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

    Source: this project; reports/ferd-lab holds what it gives. Hardware: 2 CPU cores, at most 12
    minutes with the packaged teacher (`--teacher demo`).
    """
    step = Fraction("0.025")
    return StudentRecipe(
        arch="resnet8-w8",
        image_size=28,
        eps=Fraction("0.1"),
        epochs=20,
        warmup=2,
        batch_size=128,
        # With so few steps the images are of the classes asked for only if that weighs more.
        synthesis=FERDRecipe(steps=60, width=16, lambda_oh=5.0),
        reweighting=ReweightingRecipe(step_size=step),
        loss=FERDLossRecipe(attack_steps=4, step_size=2 * step),
        distillation=DistillationRecipe(steps=80),
        augmentation=AugmentationRecipe(crop_padding=2, flip=False),
    )


def ferd_demo() -> StudentRecipe:
    """`ferd-lab` cut short, so that one sees everything happen within five minutes."""
    return dataclasses.replace(ferd_lab(), epochs=8)


#: Recipes by the name the command line knows.
TEACHER_RECIPES: Mapping[str, Callable[[], TeacherRecipe]] = {
    "cifar10-resnet18": cifar10_resnet18,
    "demo-resnet8": demo_resnet8,
    "demo-cnn": demo_cnn,
}
STUDENT_RECIPES: Mapping[str, Callable[[], StudentRecipe]] = {
    "ferd-cifar10": ferd_cifar10,
    "ferd-cifar100": ferd_cifar100,
    "ferd-tiny-imagenet": ferd_tiny_imagenet,
    "ferd-lab": ferd_lab,
    "ferd-demo": ferd_demo,
}


def find_teacher_recipe(name: str) -> TeacherRecipe:
    """The recipe of that name, or the one in a ``.toml`` file.

    Raises:
        UserError: there is none, or the file holds none.
    """
    return _find(name, TEACHER_RECIPES, TeacherRecipe, "teachers", STUDENT_RECIPES)


def find_student_recipe(name: str) -> StudentRecipe:
    """The recipe of that name, or in a ``.toml`` file; what that leaves out is `ferd-cifar10`'s.

    Raises:
        UserError: there is none, or the file holds none.
    """
    return _find(name, STUDENT_RECIPES, StudentRecipe, "students", TEACHER_RECIPES)


def _find(
    name: str,
    known: Mapping[str, Callable[[], R]],
    kind: type[R],
    whose: str,
    others: Mapping[str, object],
) -> R:
    if name.endswith(".toml"):
        values = read_toml(Path(name))
        try:
            return kind.from_fields(values)
        except UserError as reason:
            raise UserError(f"recipe {name}: {reason}") from reason
    if name in known:
        return known[name]()
    if name in others:
        raise UserError(f"recipe {name} is not one for {whose}; there are {', '.join(known)}.")
    raise UserError(
        f"no recipe for {whose} is called {name!r}.{did_you_mean(name, known)} A recipe of your "
        "own is a file that ends in .toml."
    )


def summary(recipe: Callable[[], object]) -> str:
    """First line of a recipe's docstring."""
    return (inspect.getdoc(recipe) or "").splitlines()[0]
