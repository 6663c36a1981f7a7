"""Whether a run's ``manifest.json`` is one: fields that reports read have the types they rely on.

A run folder may come from anybody. What is not listed here is printed at most, as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ferd_eval.errors import UserError
from ferd_eval.io.json import parse_json
from ferd_eval.results.manifest import look_up

#: K × K tables must fit.
_MOST_CLASSES = 10_000

#: Longer whole numbers are slow to print, or refuse to be.
_MOST_DIGITS_OF = 10**30

Check = Callable[[Any], bool]
T = TypeVar("T")


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


def _is_normalization(value: Any) -> bool:
    return _is_table(value) and (not value or {"mean", "std"} <= {*value})


def _is_trial(value: Any) -> bool:
    if not _is_table(value) or not _is_whole(value.get("images")):
        return False
    others, better = value.get("others"), value.get("better")
    return _each(_is_number)(others) and (better is None or (_is_text(better) and better in others))


#: Dotted fields that may lack or be null; ``*`` is any name. What they are → check → which.
_OPTIONAL: Mapping[str, tuple[Check, tuple[str, ...]]] = {
    "a table": (_is_table, (
        "attacks.*", "threat", "checkpoint", "model", "device", "precision", "packages", "code",
        "audits", "diagnosis", "search",
    )),
    "a table of tables": (_each(_is_table), ("cost",)),
    "a table of numbers": (_each(_is_number), ("checkpoint.recorded_accuracy",)),
    "a table of lists of texts": (_each(_of(_is_text)), ("groups", "dataset.groupings")),
    "a table of mean and std": (_is_normalization, ("model.normalization",)),
    "a table with images, others and better": (_is_trial, ("trial",)),
    "a list": (_is_list, ("warnings",)),
    "a list of tables": (_of(_is_table), ("source",)),
    "a list of texts": (_of(_is_text), ("model.unused_keys",)),
    "a list of whole numbers": (_of(_is_whole), ("dataset.class_counts", "dataset.image_shape")),
    "a text": (_is_text, (
        "status", "started", "finished", "dataset.name", "attacks.*.eps_text", "checkpoint.name",
        "checkpoint.sha256", "checkpoint.key", "checkpoint.choice", "checkpoint.trained_on",
    )),
    "a number": (_is_number, ("attacks.*.eps", "threat.eps", "cost.*.seconds")),
    "a whole number": (_is_whole, ("seed", "dataset.n")),
}  # fmt: skip

#: Those that may lack, but not be null.
_NOT_NULL: Mapping[str, tuple[Check, tuple[str, ...]]] = {
    "a list": (_is_list, ("command",)),
    "a list of numbers": (_of(_is_number), ("model.normalization.mean", "model.normalization.std")),
}


def require_record(manifest: Any, name: str) -> None:
    """Refuse anything but the record of a scoring run.

    UserError: a field is missing or of another type; the message names the first one and the file.
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
    for fields, null in ((_OPTIONAL, True), (_NOT_NULL, False)):
        for wanted, (check, paths) in fields.items():
            for path in paths:
                for field, value in _at(manifest, path.split("."), ""):
                    if not (check(value) or (null and value is None)):
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


#: Longer files are nobody's scorecard.
_MOST_BYTES = 64 * 1024 * 1024

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Fields:
    """A JSON object, whose fields are read by dotted path.

    A field that is missing or of another kind raises UserError; methods called ``…_or_none`` return
    None.
    """

    file: str  #: where it stands, as messages call it
    values: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, called: str) -> Fields:
        """Read a file that is an object; UserError where it is not."""
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise UserError(f"{called} is larger than 64 MB. Publish what ferd-eval wrote.")
            values = parse_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as reason:
            said = " ".join(str(reason).split())[:200]
            raise UserError(f"{called} cannot be read: {said}. Copy it from the run again.") from (
                reason
            )
        if not isinstance(values, dict):
            raise UserError(f"{called} is no JSON object. Copy it from the run again.")
        return cls(called, values)

    def text(self, path: str) -> str:
        return self._require(path, self.text_or_none(path), "a text")

    def text_or_none(self, path: str) -> str | None:
        value = look_up(self.values, path)
        return value if isinstance(value, str) and value else None

    def digest(self, path: str) -> str:
        return self._require(path, self.digest_or_none(path), "a SHA-256")

    def digest_or_none(self, path: str) -> str | None:
        value = self.text_or_none(path)
        return value if value and _SHA256.fullmatch(value) else None

    def whole_or_none(self, path: str) -> int | None:
        value = look_up(self.values, path)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def object(self, path: str) -> Mapping[str, Any]:
        value = look_up(self.values, path)
        return self._require(path, value if isinstance(value, Mapping) else None, "an object")

    def texts(self, path: str) -> tuple[str, ...]:
        value = look_up(self.values, path)
        found = value if isinstance(value, list) and all(map(_is_text, value)) else None
        return tuple(self._require(path, found, "a list of texts"))

    def list(self, path: str) -> list[Any]:
        value = look_up(self.values, path)
        return self._require(path, value if isinstance(value, list) else None, "a list")

    def _require(self, path: str, value: T | None, what: str) -> T:
        if value is None:
            raise UserError(f"{self.file}: {path} is not {what}. Copy the file from the run again.")
        return value


def number(value: Any) -> float | None:
    """A finite number, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None
