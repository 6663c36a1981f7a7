"""Recipes of the paper's tables at full architecture: two epochs of two steps, two images each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ferd_eval.models import build_architecture, save_network
from ferd_train.config.recipe import flat
from ferd_train.distillation.run import train_student
from ferd_train.distillation.teacher import load_teacher
from ferd_train.recipes import STUDENT_RECIPES, find_student_recipe, made_for
from tests.train.student_runs import CPU

pytestmark = [pytest.mark.deep, pytest.mark.usefixtures("same_code")]

#: Teachers of the paper's tables, and numbers of classes, by data set.
TEACHERS = {
    "cifar10": ("wideresnet-34-10", 10),
    "cifar100": ("wideresnet-34-10", 100),
    "tiny-imagenet": ("preactresnet34", 200),
}

#: Values of what costs, where a recipe has the field. Constants of the methods stay.
SHORT = {
    "epochs": 2,
    "warmup": 0,
    "batch_size": 2,
    "distillation.steps": 2,
    "synthesis.steps": 2,
    "synthesis.inversion.steps": 2,
    "synthesis.bottleneck.steps": 2,
    "synthesis.competes_from": 1,
    "synthesis.renewed_at": 0,
    "synthesis.negatives": 2,
    "synthesis.remembered": 4,
    "reweighting.attack_steps": 2,
    "loss.attack_steps": 2,
}
MADE = [
    name
    for name, recipe in STUDENT_RECIPES.items()
    if made_for(name).name in TEACHERS and recipe().synthesis.method != "data"
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> dict[str, Path]:
    """Random networks."""
    folder, files = tmp_path_factory.mktemp("teachers"), {}
    for dataset, (arch, classes) in TEACHERS.items():
        torch.manual_seed(0)
        architecture = build_architecture(arch, num_classes=classes, in_channels=3)
        files[dataset] = folder / f"{dataset}.safetensors"
        save_network(files[dataset], architecture.build(), architecture, None)
    return files


@pytest.mark.parametrize("name", MADE)
def test_it_takes_its_first_steps(name, teachers, tmp_path):
    recipe = find_student_recipe(name)
    known = flat(recipe)
    recipe = recipe.with_changes({field: each for field, each in SHORT.items() if field in known})
    teacher = load_teacher(teachers[made_for(name).name], recipe.image_size)
    train_student(recipe, teacher, tmp_path / "run", device=CPU)
    record = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert record["status"] == "finished"
    assert record["result"]["student_loss"] > 0
    assert record["recipe"]["arch"] == find_student_recipe(name).arch
