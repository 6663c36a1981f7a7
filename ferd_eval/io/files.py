"""Files written whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ferd_eval.errors import UserError


def write_atomically(file: Path, content: bytes) -> None:
    """Write the whole file or nothing: a temporary neighbour, flushed to disk, then renamed."""
    with writing_atomically(file) as stream:
        stream.write(content)


def write_texts(folder: Path, contents: Mapping[str, str]) -> tuple[Path, ...]:
    """Write each file of a folder, by name, as `write_atomically`; return their paths."""
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return tuple(folder / name for name in contents)


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
    """Remove half-written files of killed processes from these folders.

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
    """Create a folder and its parents where they are missing; return whether the folder was.

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


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file, hexadecimal, not read into memory at once; OSError if unreadable."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
