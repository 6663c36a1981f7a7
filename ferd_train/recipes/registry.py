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
from ferd_train.recipes import cmi, deepinv, dfhl, fast, ferd, rslad, teachers, zskt
from ferd_train.recipes.student import StudentRecipe
from ferd_train.recipes.teacher import TeacherRecipe

R = TypeVar("R", bound=Recipe)


#: Recipes by the name the command line knows.
TEACHER_RECIPES: Mapping[str, Callable[[], TeacherRecipe]] = {
    "cifar10-resnet18": teachers.cifar10_resnet18,
    "demo-resnet8": teachers.demo_resnet8,
    "demo-cnn": teachers.demo_cnn,
}
STUDENT_RECIPES: Mapping[str, Callable[[], StudentRecipe]] = {
    "ferd-cifar10": ferd.ferd_cifar10,
    "ferd-cifar100": ferd.ferd_cifar100,
    "ferd-tiny-imagenet": ferd.ferd_tiny_imagenet,
    "ferd-lab": ferd.ferd_lab,
    "ferd-demo": ferd.ferd_demo,
    "cmi-cifar10": cmi.cmi_cifar10,
    "cmi-lab": cmi.cmi_lab,
    "deepinv-cifar10": deepinv.deepinv_cifar10,
    "deepinv-lab": deepinv.deepinv_lab,
    "fast-cifar10": fast.fast_cifar10,
    "fast-lab": fast.fast_lab,
    "zskt-cifar10": zskt.zskt_cifar10,
    "zskt-lab": zskt.zskt_lab,
    "dfhl-cifar10": dfhl.dfhl_cifar10,
    "dfhl-cifar100": dfhl.dfhl_cifar100,
    "dfhl-lab": dfhl.dfhl_lab,
    "dfhl-lab-hard": dfhl.dfhl_lab_hard,
    "rslad-cifar10": rslad.rslad_cifar10,
    "rslad-lab": rslad.rslad_lab,
}


#: What recipes for students are made for, by what their names end in.
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
    return dataset_info(_MADE_FOR[name.partition("-")[2]])


def relatives(name: str) -> list[str]:
    """Recipes of the same method that are made for other images."""
    method = f"{name.partition('-')[0]}-"
    return [
        other
        for other in STUDENT_RECIPES
        if other.startswith(method) and made_for(other) != made_for(name)
    ]


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
