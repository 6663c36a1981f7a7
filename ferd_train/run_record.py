"""What a training folder's ``manifest.json`` says, and whether two say the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferd_eval.datasets import LabelledImages
from ferd_eval.device import DeviceChoice
from ferd_eval.errors import UserError
from ferd_eval.manifest import ENVIRONMENT, environment, look_up, now, read_manifest
from ferd_train.teacher_recipe import TeacherRecipe

# The order of the images comes from numpy.
_TRAINING_ENVIRONMENT = (*ENVIRONMENT, "packages.numpy")


def describe_run(
    recipe: TeacherRecipe, data: LabelledImages, device: DeviceChoice
) -> dict[str, Any]:
    """The record of a run that begins now."""
    return {
        "status": "running",
        "started": now(),
        "finished": None,
        **environment(),
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "dataset": data.describe(),
        "device": device.describe(),
        "checkpoint_selection": "last epoch, moving average of the weights; no test data used",
    }


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record in a folder, None where there is none.

    Raises:
        UserError: there is one, but not of a training run, or it cannot be read.
    """
    return read_manifest(folder, frozenset({"status", "recipe", "dataset"}), "a training run")


def require_same_training(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse another recipe or other data, and to continue where the last bit would differ.

    Raises:
        UserError: names the first field that differs, with both values.
    """
    for key, value in new["recipe"].items():
        before = look_up(old, f"recipe.{key}")
        if before != value:
            raise UserError(
                f"{folder} holds a run with another recipe: {key} is {before}, asked for is "
                f"{value}. Choose another folder with --out."
            )
    before, after = look_up(old, "dataset.fingerprint"), new["dataset"]["fingerprint"]
    if before != after:
        raise UserError(
            f"{folder} holds a run on other data (fingerprint {str(before)[:12]}, now "
            f"{after[:12]}). Choose another folder with --out."
        )
    if old["status"] == "finished":
        return
    for path in _TRAINING_ENVIRONMENT:
        before, after = look_up(old, path), look_up(new, path)
        if before != after:
            raise UserError(
                f"{folder} holds an unfinished run of another environment: {path} was {before} and "
                f"is {after} now, so the result would be another. Continue it as it was begun, or "
                "choose another folder with --out."
            )
