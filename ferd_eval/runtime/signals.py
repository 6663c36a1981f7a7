"""Ctrl-C, and the SIGTERM that clusters send before they kill, take effect where nothing is lost.

State is global, as signals are. Only command lines ask for it; in a library Ctrl-C stops at once.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Seconds in which a SIGTERM repeats the signal before: some send it to a process and its group.
_ECHO = 1.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: When a signal asked to stop, on the monotonic clock; None before.
_asked_at: float | None = None

#: Runs from the first signal until the patience for current work ends.
_timer: threading.Timer | None = None


def is_asked() -> bool:
    """Whether nothing new is to be begun."""
    return _asked_at is not None


def stop_if_asked() -> None:
    """Call where nothing would be lost.

    Raises:
        KeyboardInterrupt: a signal has asked to stop.
    """
    if is_asked():
        raise KeyboardInterrupt


def take_time() -> None:
    """Current work is finished: do not interrupt its saving."""
    global _timer
    if _timer is not None:
        _timer.cancel()
        _timer = None


@contextmanager
def stopping_after(what: str, patience: float | None = None) -> Iterator[None]:
    """Within the block the first signal waits for `stop_if_asked`, the second one does not.

    The block itself raises KeyboardInterrupt if the signal came too late for that. Ignored signals
    stay ignored.

    Args:
        what: is finished and kept first, e.g. "shard".
        patience: seconds after which the first signal repeats itself, unless `take_time` is called
            before. None for as long as it takes.
    """
    global _asked_at

    def hear(number: int, frame: FrameType | None) -> None:
        global _asked_at
        heard_at = time.monotonic()
        if _asked_at is None:
            _asked_at = heard_at
            limit = "which may take minutes"
            if patience is not None:
                limit = f"if that takes no more than {patience:.0f} s"
                _repeat(number, patience)
            _tell(
                f"interrupted: the {what} at hand is finished and kept first, {limit}; Ctrl-C "
                "again stops at once."
            )
        elif number == signal.SIGINT or heard_at - _asked_at > _ECHO:
            raise KeyboardInterrupt

    with _handled(hear):
        try:
            yield
            stop_if_asked()
        finally:
            _asked_at = None
            take_time()


@contextmanager
def terminating_as_interrupting() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def hear(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(hear):
        yield


@contextmanager
def _handled(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Both signals go to `hear`, unless they are ignored; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, hear)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not set by Python, so not by us either
                signal.signal(number, handler)


def _repeat(number: int, seconds: float) -> None:
    global _timer
    _timer = threading.Timer(seconds, _thread.interrupt_main, [number])
    _timer.daemon = True
    _timer.start()


def _tell(line: str) -> None:
    """Write past Python's buffers, which the signal may have interrupted."""
    with suppress(OSError, ValueError):
        start = "\n" if os.isatty(2) else ""
        os.write(2, f"{start}{line}\n".encode())
