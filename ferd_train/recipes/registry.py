"""Recipes by name. Each is a function that returns a full recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ferd_eval.datasets import dataset_info
from ferd_eval.datasets.info import DatasetInfo
from ferd_eval.errors import UserError, did_you_mean
from ferd_train.config.recipe import Recipe, read_toml
from ferd_train.recipes import baselines, ferd, teacher
from ferd_train.recipes.student import StudentRecipe
from ferd_train.recipes.teacher import TeacherRecipe

R = TypeVar("R", bound=Recipe)


def _by_name(*recipes: Callable[[], R]) -> Mapping[str, Callable[[], R]]:
    """By the name on the command line: that of the function, with hyphens."""
    return {recipe.__name__.replace("_", "-"): recipe for recipe in recipes}


TEACHER_RECIPES = _by_name(
    teacher.cifar10_resnet18,
    teacher.cifar10_wideresnet34,
    teacher.cifar100_wideresnet34,
    teacher.tiny_imagenet_preactresnet34,
    teacher.demo_resnet8,
    teacher.demo_cnn,
)
STUDENT_RECIPES = _by_name(
    ferd.ferd_cifar10,
    ferd.ferd_cifar10_paper,
    ferd.ferd_cifar100,
    ferd.ferd_cifar100_paper,
    ferd.ferd_tiny_imagenet,
    ferd.ferd_tiny_imagenet_paper,
    ferd.ferd_lab,
    ferd.ferd_lab_paper,
    ferd.ferd_demo,
    baselines.cmi_cifar10,
    baselines.cmi_cifar100,
    baselines.cmi_tiny_imagenet,
    baselines.cmi_lab,
    baselines.deepinv_cifar10,
    baselines.deepinv_cifar100,
    baselines.deepinv_tiny_imagenet,
    baselines.deepinv_lab,
    baselines.fast_cifar10,
    baselines.fast_cifar100,
    baselines.fast_tiny_imagenet,
    baselines.fast_lab,
    baselines.zskt_cifar10,
    baselines.zskt_cifar100,
    baselines.zskt_tiny_imagenet,
    baselines.zskt_lab,
    baselines.dfhl_cifar10,
    baselines.dfhl_cifar100,
    baselines.dfhl_tiny_imagenet,
    baselines.dfhl_lab,
    baselines.dfhl_lab_hard,
    baselines.rslad_cifar10,
    baselines.rslad_cifar100,
    baselines.rslad_tiny_imagenet,
    baselines.rslad_lab,
)

#: Data sets that students' recipes are made for, by the end of their names.
_MADE_FOR = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "tiny-imagenet": "tiny-imagenet",
    "lab": "fashion-mnist",
    "lab-hard": "fashion-mnist",
    "demo": "fashion-mnist",
}


def made_for(name: str) -> DatasetInfo | None:
    """The data set like whose images those of a recipe for students are; None of a file."""
    if name not in STUDENT_RECIPES:
        return None
    return dataset_info(_MADE_FOR[name.partition("-")[2].removesuffix("-paper")])


def relatives(name: str) -> list[str]:
    """Recipes of the same method that are made for other images, the same variant's first."""
    method = f"{name.partition('-')[0]}-"
    others = [
        other
        for other in STUDENT_RECIPES
        if other.startswith(method) and made_for(other) != made_for(name)
    ]
    return sorted(others, key=lambda other: other.endswith("-paper") != name.endswith("-paper"))


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
