"""Values out of a JSON file that anybody may have written: there and of their type, or one line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.manifest import look_up
from ferd_eval.output import parse_json

#: Longer files are nobody's scorecard.
_MOST_BYTES = 64 * 1024 * 1024

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Fields:
    """A JSON object.

    Attributes:
        file: where it stands, as messages call it.
    """

    file: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, called: str) -> Fields:
        """Read a file that is an object.

        Raises:
            UserError: it is not.
        """
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
        """A text that must be there."""
        value = look_up(self.values, path)
        if not isinstance(value, str) or not value:
            raise self._lacks(path, "a text")
        return value

    def text_or_none(self, path: str) -> str | None:
        """A text, None where there is none."""
        value = look_up(self.values, path)
        return value if isinstance(value, str) and value else None

    def digest(self, path: str) -> str:
        """A SHA-256 that must be there."""
        value = look_up(self.values, path)
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise self._lacks(path, "a SHA-256")
        return value

    def digest_or_none(self, path: str) -> str | None:
        """A SHA-256, None where there is none."""
        value = look_up(self.values, path)
        return value if isinstance(value, str) and _SHA256.fullmatch(value) else None

    def whole_or_none(self, path: str) -> int | None:
        """A whole number, None where there is none."""
        value = look_up(self.values, path)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def object(self, path: str) -> Mapping[str, Any]:
        """An object that must be there."""
        value = look_up(self.values, path)
        if not isinstance(value, Mapping):
            raise self._lacks(path, "an object")
        return value

    def texts(self, path: str) -> tuple[str, ...]:
        """A list of texts that must be there."""
        value = look_up(self.values, path)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._lacks(path, "a list of texts")
        return tuple(value)

    def list(self, path: str) -> list[Any]:
        """A list that must be there."""
        value = look_up(self.values, path)
        if not isinstance(value, list):
            raise self._lacks(path, "a list")
        return value

    def _lacks(self, path: str, what: str) -> UserError:
        return UserError(f"{self.file}: {path} is not {what}. Copy the file from the run again.")


def number(value: Any) -> float | None:
    """A finite number, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None
