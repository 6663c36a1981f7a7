"""Whether a run's ``manifest.json`` is one: fields that reports read have the types they rely on.

A run folder may come from anybody. What is not listed here is printed at most, as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ferd_eval.errors import UserError

#: K × K tables must fit.
_MOST_CLASSES = 10_000

#: Longer whole numbers are slow to print, or refuse to be.
_MOST_DIGITS_OF = 10**30

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _MOST_DIGITS_OF


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _of(check: Check) -> Check:
    return lambda value: _is_list(value) and all(map(check, value))


def _each(check: Check) -> Check:
    return lambda value: _is_table(value) and all(map(check, value.values()))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_normalization(value: Any) -> bool:
    return _is_table(value) and (not value or {"mean", "std"} <= {*value})


def _is_trial(value: Any) -> bool:
    if not _is_table(value) or not _is_whole(value.get("images")):
        return False
    others, better = value.get("others"), value.get("better")
    if not _is_table(others) or not _each(_is_number)(others):
        return False
    return better is None or (_is_text(better) and better in others)


#: Dotted field → what it is, where it is there; ``*`` is any name.
_FIELDS: Mapping[str, tuple[str, Check]] = {
    "status": ("a text", _or_none(_is_text)),
    "started": ("a text", _or_none(_is_text)),
    "finished": ("a text", _or_none(_is_text)),
    "command": ("a list", _is_list),
    "warnings": ("a list", _or_none(_is_list)),
    "source": ("a list of tables", _or_none(_of(_is_table))),
    "seed": ("a whole number", _or_none(_is_whole)),
    "dataset.name": ("a text", _or_none(_is_text)),
    "dataset.n": ("a whole number", _or_none(_is_whole)),
    "dataset.class_counts": ("a list of whole numbers", _or_none(_of(_is_whole))),
    "dataset.image_shape": ("a list of whole numbers", _or_none(_of(_is_whole))),
    "dataset.groupings": ("a table of lists of texts", _or_none(_each(_of(_is_text)))),
    "attacks.*": ("a table", _or_none(_is_table)),
    "attacks.*.eps": ("a number", _or_none(_is_number)),
    "attacks.*.eps_text": ("a text", _or_none(_is_text)),
    "groups": ("a table of lists of texts", _or_none(_each(_of(_is_text)))),
    "threat": ("a table", _or_none(_is_table)),
    "threat.eps": ("a number", _or_none(_is_number)),
    "checkpoint": ("a table", _or_none(_is_table)),
    "checkpoint.name": ("a text", _or_none(_is_text)),
    "checkpoint.sha256": ("a text", _or_none(_is_text)),
    "checkpoint.key": ("a text", _or_none(_is_text)),
    "checkpoint.choice": ("a text", _or_none(_is_text)),
    "checkpoint.trained_on": ("a text", _or_none(_is_text)),
    "checkpoint.recorded_accuracy": ("a table of numbers", _or_none(_each(_is_number))),
    "model": ("a table", _or_none(_is_table)),
    "model.normalization": ("a table of mean and std", _or_none(_is_normalization)),
    "model.normalization.mean": ("a list of numbers", _of(_is_number)),
    "model.normalization.std": ("a list of numbers", _of(_is_number)),
    "model.unused_keys": ("a list of texts", _or_none(_of(_is_text))),
    "trial": ("a table with images, others and better", _or_none(_is_trial)),
    "device": ("a table", _or_none(_is_table)),
    "precision": ("a table", _or_none(_is_table)),
    "packages": ("a table", _or_none(_is_table)),
    "code": ("a table", _or_none(_is_table)),
    "audits": ("a table", _or_none(_is_table)),
    "diagnosis": ("a table", _or_none(_is_table)),
    "cost": ("a table of tables", _or_none(_each(_is_table))),
    "cost.*.seconds": ("a number", _or_none(_is_number)),
}


def require_record(manifest: Any, name: str) -> None:
    """Refuse what is no record of a scoring run.

    Args:
        manifest: what the file holds.
        name: the file, for the message.

    Raises:
        UserError: a field is missing or of another type; the first one is named.
    """
    if not _is_table(manifest) or not {"dataset", "attacks"} <= {*manifest}:
        raise UserError(f"{name} is not a run's manifest. Give another folder.")
    if manifest["attacks"] == {}:
        raise UserError(f"{name} holds no attack. Score the checkpoint into another folder.")
    for field, wanted, value in _wrong(manifest):
        said = " ".join(ascii(value)[:60].split()) if not _is_table(value) else "a table"
        raise UserError(
            f"{name} is damaged: {field[:100]!r} is {said}, expected {wanted}. Restore the file, "
            "or remove the folder and score the checkpoint again."
        )


def _wrong(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Fields that are not what they should be, what they should, and what they are."""
    for field in ("dataset", "attacks"):
        if not _is_table(manifest[field]):
            yield field, "a table", manifest[field]
            return
    names = manifest["dataset"].get("class_names")
    if not _of(_is_text)(names) or not 0 < len(names) <= _MOST_CLASSES:
        yield "dataset.class_names", f"1 to {_MOST_CLASSES} texts", names
        return
    for path, (wanted, check) in _FIELDS.items():
        for field, value in _at(manifest, path.split("."), ""):
            if not check(value):
                yield field, wanted, value
    for path in ("groups", "dataset.groupings"):
        for field, value in _at(manifest, [*path.split("."), "*"], ""):
            if len(value) != len(names):
                yield field, f"one name for each of {len(names)} classes", value


def _at(value: Any, path: list[str], before: str) -> Iterator[tuple[str, Any]]:
    """All that is found at a path, with its name; nothing where the path ends early."""
    if not path:
        yield before, value
        return
    if not _is_table(value):
        return
    for key in list(value) if path[0] == "*" else [path[0]]:
        if key in value:
            yield from _at(value[key], path[1:], f"{before}.{key}" if before else str(key))
