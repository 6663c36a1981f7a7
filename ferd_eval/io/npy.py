"""The array of an ``.npy`` file, mapped rather than read, without ever loading an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.bounded import unreadable


def map_npy(path: Path) -> NDArray[Any]:
    """The array; its values stay in the file until they are used, changes never reach it.

    UserError: the file is none, not whole, or may carry code.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {state}; give a file of np.save.")
    try:
        with path.open("rb") as file:  # numpy allocates the header that a file claims to have
            version = np.lib.format.read_magic(file)
            claimed = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if claimed > path.stat().st_size:
            raise ValueError(f"its header claims {claimed} bytes")
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # a damaged file can make numpy raise almost anything
        raise UserError(
            f"{path} cannot be read as an array ({message_of(error)}); save it with np.save."
        ) from error
