"""The arrays of an ``.npz`` file, without ever loading an object."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.bounded import require_memory, unreadable

#: Pictures deflate to a tenth at best; blank ones to a thousandth, and so do bombs. Arrays below
#: `_SMALL` bytes are let off.
_MOST_INFLATED, _SMALL = 100, 1 << 24


@dataclass(frozen=True)
class NpzHeader:
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextmanager
def open_npz(path: Path) -> Iterator[NpzArchive]:
    """Open an archive for as long as it is read; UserError: it is not whole, or unreadable."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield NpzArchive(path, archive)
    except UserError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # zip and npy readers raise whatever their parsers tripped over
        raise UserError(
            f"{path} ({path.stat().st_size} bytes) is not a whole npz archive "
            f"({message_of(error)}); save it again with np.savez."
        ) from error


class NpzArchive:
    """The arrays of an archive, each checked by its header before its values are unpacked."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self.keys = [
            name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")
        ]

    def pick(self, candidates: Sequence[str], what: str) -> str:
        """The first of the candidates that is there; UserError where none is, which names `what`
        was looked for."""
        for key in candidates:
            if key in self.keys:
                return key
        raise UserError(
            f"{self.path} has {self.keys or 'no arrays'}, but none of "
            f"{', '.join(candidates)}; save the {what} under one of these names."
        )

    def header(self, key: str) -> NpzHeader:
        """Shape and type of an array.

        UserError: it may carry code, is not as large as it says, or is too large for memory.
        """
        with self._archive.open(f"{key}.npy") as file:
            header, length = _read_header(file)
        if header.dtype.hasobject or header.dtype.names:
            raise UserError(
                f"{self.path}: {key} has type {header.dtype}, which may carry code and is never "
                "loaded; save a plain array of numbers or text."
            )
        promised = prod(header.shape) * header.dtype.itemsize
        entry = self._archive.getinfo(f"{key}.npy")
        stored = entry.file_size - length
        if promised != stored:
            raise UserError(
                f"{self.path}: {key} says shape {header.shape} of {header.dtype}, {promised} "
                f"bytes, but {stored} are stored; save it again with np.savez."
            )
        if promised > max(_SMALL, _MOST_INFLATED * self.path.stat().st_size):
            raise UserError(
                f"{self.path}: {key} inflates to {promised} bytes in a file of "
                f"{self.path.stat().st_size}, more than {_MOST_INFLATED}-fold; save it "
                "uncompressed, with np.savez."
            )
        require_memory(promised, f"{self.path}: {key} of shape {header.shape}")
        return header

    def read(self, key: str) -> NDArray[Any]:
        self.header(key)
        with self._archive.open(f"{key}.npy") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _read_header(file: IO[bytes]) -> tuple[NpzHeader, int]:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"npy format {version[0]}.{version[1]}")
    shape, _, dtype = readers[version](file)
    return NpzHeader(shape, dtype), file.tell()
