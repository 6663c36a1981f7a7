"""Progress of a run: a bar on a terminal, one line a shard elsewhere."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

#: Seconds until the first of `SparseLines`, and between two of them.
_FIRST_LINE, _BETWEEN_LINES = 10.0, 60.0


class ProgressReporter:
    """Told of a run's progress; this one shows nothing. Use as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, title: str, *, measured: bool = False) -> None:
        """A run begins; `measured`: work is in seconds as measured before, not in passes."""

    def advance(self, text: str, cost: float, left: float) -> None:
        """A shard is finished: its cost, and the work left in the run."""

    def skip(self, cost: float, left: float) -> None:
        """A shard was finished by an earlier run."""

    def note(self, text: str) -> None:
        """A line for the user."""


#: Share of a run after which its own rate counts as much as the measured one. Cheap attacks come
#: first, and are slower than their passes say.
_TRUST = 0.03


class Clock:
    """Work done and left, and the seconds left at the rate so far.

    The first shard and shards of no cost are a warm-up; skipped shards do not count for the rate.
    """

    def __init__(self, measured: bool) -> None:
        self._done = self._timed = 0.0
        self._left = 1.0
        self._began: float | None = None
        self._trust = _TRUST if measured else 0.0

    def advance(self, cost: float, left: float) -> None:
        """A shard is finished."""
        if self._began is None or cost == self._timed == 0.0:
            self._began = time.monotonic()
        else:
            self._timed += cost
        self.skip(cost, left)

    def skip(self, cost: float, left: float) -> None:
        """A shard was finished by an earlier run."""
        self._done, self._left = self._done + cost, left

    @property
    def share(self) -> float:
        """Share of the known work that is done."""
        return self._done / max(self._done + self._left, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """None until it can be told."""
        trusted = self._trust * (self._timed + self._left)
        if self._began is None or self._timed + trusted == 0.0:
            return None
        rate = (time.monotonic() - self._began + trusted) / (self._timed + trusted)
        return rate * max(self._left, 0.0)

    @property
    def left(self) -> str:
        """Time left, in words; empty until it can be told."""
        seconds = self.seconds_left
        return "" if seconds is None else f"{duration(seconds)} left"


class Lines(ProgressReporter):
    """One line a shard, with the time left: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, title: str, *, measured: bool = False) -> None:
        self._title, self._clock = title, Clock(measured)

    def advance(self, text: str, cost: float, left: float) -> None:
        self._clock.advance(cost, left)
        remaining = f", {self._clock.left}" if self._clock.left else ""
        self.note(f"{self._title}  {text}  {self._clock.share:4.0%}{remaining}")

    def skip(self, cost: float, left: float) -> None:
        self._clock.skip(cost, left)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class SparseLines(Lines):
    """At most one line a minute, for shards of seconds in logs; the first after ten seconds."""

    def start(self, title: str, *, measured: bool = False) -> None:
        super().start(title, measured=measured)
        self._due = time.monotonic() + _FIRST_LINE

    def advance(self, text: str, cost: float, left: float) -> None:
        if time.monotonic() >= self._due:
            super().advance(text, cost, left)
        else:
            self._clock.advance(cost, left)

    def note(self, text: str) -> None:
        super().note(text)
        self._due = time.monotonic() + _BETWEEN_LINES


class Bar(ProgressReporter):
    """A progress bar with the time left, for terminals and notebooks."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, title: str, *, measured: bool = False) -> None:
        """Show a bar for this run in place of the one before."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._clock = Clock(measured)
        self._task = self._progress.add_task(title, total=1.0, text="", left="")

    def advance(self, text: str, cost: float, left: float) -> None:
        self._clock.advance(cost, left)
        self._show(text=text)

    def skip(self, cost: float, left: float) -> None:
        self._clock.skip(cost, left)
        self._show()

    def note(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def _show(self, **text: Any) -> None:
        assert self._task is not None
        clock = self._clock
        self._progress.update(self._task, completed=clock.share, left=clock.left, **text)


def shown_on(screen: Console) -> ProgressReporter:
    """A bar on a terminal or in a notebook (which needs ipywidgets for it), lines elsewhere."""
    in_notebook = screen.is_jupyter and find_spec("ipywidgets") is not None
    return Bar(screen) if screen.is_terminal or in_notebook else Lines(screen)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``7 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
