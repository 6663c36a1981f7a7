"""What a checkpoint says of its own training, as runs keep it: recipe, teacher, accuracy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ferd_eval.io.recorded_accuracy import recorded_accuracies

#: Longer recipes are nobody's.
_MOST_CHARACTERS = 64 * 1024

_MOST_KEY_CHARACTERS = 1024

_SHA256 = re.compile("[0-9a-f]{64}")

_DATASET = re.compile(r"[\w.-]{1,60}")


def training_record(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the metadata tells; a part that is not well formed is left out.

    A checkpoint is whatever somebody sent: a recipe is taken only as JSON of one level.
    """
    record: dict[str, Any] = {}
    recipe = _recipe(metadata.get("ferd.recipe"))
    if recipe:
        record["recipe"] = recipe
    teacher = metadata.get("ferd.teacher_sha256")
    if isinstance(teacher, str) and _SHA256.fullmatch(teacher):
        record["teacher_sha256"] = teacher
        key = metadata.get("ferd.teacher_key")
        if isinstance(key, str) and 0 < len(key) <= _MOST_KEY_CHARACTERS:
            record["teacher_key"] = key
    dataset = metadata.get("ferd.dataset")
    if isinstance(dataset, str) and _DATASET.fullmatch(dataset):
        record["trained_on"] = dataset
    accuracies = recorded_accuracies(metadata)
    if accuracies:
        record["recorded_accuracy"] = accuracies
    return record


def _recipe(text: Any) -> dict[str, Any] | None:
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        return None
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(recipe, dict):
        return None
    flat = all(_is_plain(value) for value in recipe.values())
    return recipe if flat else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list | dict) for item in value)
    return not isinstance(value, dict)
