"""Strict JSON, and records with a digest: a torn file is no JSON, a flipped digit still is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ferd_eval.errors import UserError

#: What UTF-8 has not: halves of surrogate pairs, as JSON may ask for them, and, since numpy makes
#: such texts, numbers beyond Unicode.
_HALF_ASKED = re.compile(r"\\u[dD][89a-fA-F]")
_NO_TEXT = re.compile("[^\0-\ud7ff\ue000-\U0010ffff]")


def is_text(text: str) -> bool:
    """Whether files can hold it."""
    return not _NO_TEXT.search(text)


def to_json(value: Any) -> str:
    """Serialise strictly: two-space indent, numpy scalars as numbers, NaN and ±inf as null.

    What is no text, such as half of a surrogate pair, becomes �.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def parse_json(text: str) -> Any:
    """Read JSON.

    ValueError: it is none, nests too deeply, or has a character that no file can hold.
    """
    try:
        value = json.loads(text)
        if _HALF_ASKED.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair") from None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


#: The entry with the SHA-256 of all others; its name in files is "seal".
CHECKSUM = "seal"


def with_checksum(record: Mapping[str, Any]) -> bytes:
    """The record as JSON, with its digest at the end."""
    return to_json({**record, CHECKSUM: _digest(record)}).encode()


def without_checksum(value: Any, file: Path) -> Any:
    """Verify and remove the checksum of a record read from `file`; without one, return it as is.

    UserError: the record does not match its checksum.
    """
    if not isinstance(value, dict) or CHECKSUM not in value:
        return value
    record = {key: entry for key, entry in value.items() if key != CHECKSUM}
    if value[CHECKSUM] != _digest(record):
        raise UserError(
            f"{file} was damaged or edited after it was written. Restore it, or remove the folder "
            f'and run the command again; after an edit that was meant, remove its "{CHECKSUM}".'
        )
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(record).encode()).hexdigest()
