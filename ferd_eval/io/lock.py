"""One writing process at a time in a folder; remains of killed ones are removed.

An operating system's lock on a file: it ends with the process that holds it, however that ends, so
a folder is never blocked by one that is gone.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ferd_eval.errors import UserError
from ferd_eval.io.files import make_folder, remove_leftovers

#: The file that is locked; its text says by whom.
LOCK = ".lock"

#: Seconds for which a holder that is being killed may still show.
_PATIENCE = 2.0
_LOOK = 0.05

#: What a lock that another process holds is answered with; anything else: no locks are to be had.
_HELD = (errno.EAGAIN, errno.EACCES)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def sole_user(
    folder: Path,
    option: str = "--out",
    *,
    below: Sequence[str] = (),
    note: Callable[[str], None] = _say,
) -> Iterator[None]:
    """Hold a folder until the block is left or the process ends, however it ends.

    It is made if it is missing, and removed again if nothing comes into it. Half-written files of
    killed processes are removed from it and from the folders in it that `below` names. Where
    nothing can be written, nothing is held either: whoever tries to write finds out. `note` is
    told of a file system without locks.

    UserError: another process holds it (`option`, of the command line, chooses another folder), or
    it cannot be made.
    """
    was_missing = make_folder(folder)
    lock = _take(folder, option, note)
    try:
        remove_leftovers(folder, *(folder / name for name in below))
        yield
    finally:
        if lock is not None:
            with suppress(OSError):  # while it is held: nobody else can have taken this file
                (folder / LOCK).unlink()
            os.close(lock)
        if was_missing:
            with suppress(OSError):  # it is in use
                folder.rmdir()


def _take(folder: Path, option: str, note: Callable[[str], None]) -> int | None:
    """An open file that is locked, None where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    until = time.monotonic() + _PATIENCE
    while True:
        try:
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # whoever made the folder has just removed it again
            make_folder(folder)
            continue
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            holder = _holder(file)
            os.close(file)
            if reason.errno not in _HELD:
                note(
                    f"the file system of {folder} has no locks ({reason.strerror}): see to it that "
                    "no other process works in this folder."
                )
                return None
            if time.monotonic() > until:
                raise UserError(
                    f"{folder} is in use by {holder}. Wait for it or end it, then run the same "
                    f"command; or choose another folder with {option}."
                ) from reason
            time.sleep(_LOOK)
            continue
        if _is_at(file, folder / LOCK):
            _sign(file)
            return file
        os.close(file)  # the last holder has removed it meanwhile


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _sign(file: int) -> None:
    """Say who holds it, for whoever comes next."""
    words = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    with suppress(OSError):  # a full disk still takes locks
        os.truncate(file, 0)
        os.pwrite(file, json.dumps(words).encode(), 0)


def _holder(file: int) -> str:
    """Who holds it, by what it says."""
    try:
        words = json.loads(os.pread(file, 4096, 0))
        return f"process {words['pid']} on {words['host']}, since {words['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
