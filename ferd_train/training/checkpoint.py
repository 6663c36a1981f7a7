"""State file of an unfinished run. Reading it executes nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.files import write_atomically


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, texts and containers of them, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(file, buffer.getvalue())


def read_state(file: Path, load: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass a state file to `load`, which may raise anything if it does not fit.

    Raises:
        UserError: the file is damaged. It was written whole, so something else broke it, and
            whether to lose its epochs is the user's to say.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch does not look at the checksums
            if archive.testzip() is not None:
                raise ValueError("a checksum is wrong")
        load(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as reason:  # the readers raise whatever their parsers tripped over
        raise UserError(
            f"{file} ({file.stat().st_size} bytes) is damaged, the run cannot be continued "
            f"from it ({message_of(reason, 100)}). Delete "
            "it and run the same command to start again from the first epoch."
        ) from reason
