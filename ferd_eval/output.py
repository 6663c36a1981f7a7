"""Files and JSON as they leave the program: whole or not at all, and strict."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

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

    Raises:
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


def write_atomically(file: Path, content: bytes) -> None:
    """Write the whole file or nothing: a temporary neighbour, flushed to disk, then renamed."""
    with writing_atomically(file) as stream:
        stream.write(content)


@contextmanager
def writing_atomically(file: Path) -> Iterator[BinaryIO]:
    """As `write_atomically`, piece by piece."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException as reason:
        with suppress(OSError):  # a disk that takes no file lets none be removed either
            part.unlink(missing_ok=True)
        if not isinstance(reason, OSError):
            raise
        raise UserError(
            f"cannot write {file}: {reason.strerror or reason}. "
            "Free some space and run the same command again, or choose another folder with --out; "
            "finished work is kept."
        ) from reason


def remove_leftovers(*folders: Path) -> None:
    """Remove what killed processes were in the middle of writing into these folders.

    Files of processes that live, and are not this one, stay: they may be about to be renamed.
    """
    for folder in folders:
        for part in folder.glob(".*.part"):
            writer = part.name.split(".")[-2]
            if writer.isdecimal() and (int(writer) == os.getpid() or not _lives(int(writer))):
                with suppress(OSError):
                    part.unlink()


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def make_folder(folder: Path) -> bool:
    """Create a folder and its parents where they are missing.

    Returns:
        Whether the folder was.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        if folder.is_dir():
            return False
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise UserError(
            f"cannot create the folder {folder}: {reason.strerror}. Choose another with --out."
        ) from reason
    return True
