"""Where the pixels of a data set lie: in memory, or for large sets in a file mapped into it."""

from __future__ import annotations

import os
import tempfile
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError

#: Images as 8-bit numbers, or in [0, 1].
Pixels = NDArray[np.uint8] | NDArray[np.float32]

#: Bytes held in memory at most.
IN_MEMORY = 2**30


def room_for(shape: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    """An array for the pixels of `what`; UserError where the disk has no room.

    The file of a large one is nameless, in the folder for temporary files (``TMPDIR``): it goes
    when the process does, however that ends. The system keeps as much of it in memory as there is
    room for.
    """
    count = prod(shape)
    if count <= IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would show as a crash, later
                os.posix_fallocate(file.fileno(), 0, count)
            else:
                file.truncate(count)
            mapped = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as reason:
        raise UserError(
            f"{what} take {count / 2**30:.1f} GiB, which {folder} has no room for "
            f"({reason.strerror}). Name a folder with room in TMPDIR, or use a part of them."
        ) from reason
    return mapped.view(np.ndarray)


def rows_of(pixels_NCHW: Pixels, positions: NDArray[np.int64]) -> Pixels:
    """Some of the images; those of a large set are not brought into memory for it."""
    count = len(positions)
    if np.array_equal(positions, np.arange(count)):
        return pixels_NCHW[:count]
    if pixels_NCHW.dtype != np.uint8:
        return pixels_NCHW[positions]
    room = room_for((count, *pixels_NCHW.shape[1:]), f"{count} images")
    np.take(pixels_NCHW, positions, axis=0, out=room, mode="clip")  # else a copy is made first
    return room
