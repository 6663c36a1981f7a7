"""Files, gzip-compressed or not, read no further than the caller expects them to reach."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from types import TracebackType

from ferd_eval.errors import UserError

_PIECE = 1 << 20
# A deflate block can stand for at most 258 bytes in 2 bits.
_MOST_INFLATED = 1032


class BoundedFile:
    """A plain or ``.gz`` file that hands out at most what is asked for.

    Memory grows with what the file really holds, so a header that promises too much, or a few
    kilobytes that unpack to gigabytes, cost nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._passed = 0
        try:
            self._stream = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
        except OSError as error:
            raise unreadable(path, error) from error

    @property
    def most(self) -> int:
        """More bytes than this cannot be in it, by its size on disk."""
        size = self.path.stat().st_size
        return size * _MOST_INFLATED if self.path.suffix == ".gz" else size

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def read(self, count: int, expected: str) -> bytearray:
        """The next ``count`` bytes, fewer where the file ends before.

        UserError: the file cannot be read, or is damaged gzip. Where gzip is cut short, the message
        says what was `expected`.
        """
        content = bytearray()
        try:
            while len(content) < count:
                piece = self._stream.read1(min(_PIECE, count - len(content)))
                if not piece:
                    break
                content += piece
                self._passed += len(piece)
        except EOFError as error:
            raise UserError(
                f"{self.path} is cut short: its gzip stream ends after {self._passed} "
                f"bytes, but {expected}; fetch it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{self.path} is not a whole gzip file ({error}); fetch it again."
            ) from error
        except OSError as error:
            raise unreadable(self.path, error) from error
        return content


def read_whole(path: Path, limit: int, what: str) -> bytearray:
    """All of a file of at most `limit` bytes; UserError: it is longer, so it is no `what`."""
    with BoundedFile(path) as file:
        content = file.read(limit + 1, "more belong to it")
    if len(content) > limit:
        raise UserError(f"{path} has more than {limit} bytes: it is no {what}.")
    return content


def existing(path: Path) -> Path | None:
    """Return ``path``, or ``path.gz``, whichever is a file."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def unreadable(path: object, error: Exception) -> UserError:
    """Word an operating-system error about ``path``."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"cannot read {path}: {' '.join(reason.split())}.")


def require_memory(count: int, what: str) -> None:
    """Refuse data that this machine cannot hold, before any of it is read.

    UserError: ``count`` bytes are more than the machine's physical memory, where that is known.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if count > memory:
        raise UserError(
            f"{what} would take {count / 2**30:.1f} GiB of memory, but this machine has "
            f"{memory / 2**30:.1f} GiB; use a part of it."
        )
