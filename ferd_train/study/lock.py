"""One study command at a time in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ferd_eval.errors import UserError


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold the folder until the block is left or the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    if sys.platform == "win32":  # no such locks there
        yield
        return
    import fcntl

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            raise UserError(
                f"another ferd-train study is at work in {folder}. Wait for it, or choose another "
                "folder with --work."
            ) from reason
        yield
