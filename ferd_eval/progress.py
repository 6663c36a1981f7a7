"""What a person sees while a run goes on: a bar on a terminal, one line a unit elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Watcher(Protocol):
    """Told of each finished unit."""

    def start(self, title: str) -> None:
        """A run begins."""

    def advance(self, text: str, cost: float, left: float) -> None:
        """A unit has been finished. It cost so many passes, and so many are left in the run."""

    def skip(self, cost: float, left: float) -> None:
        """A unit was finished by an earlier run."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Silent:
    """Shows nothing."""

    def start(self, title: str) -> None:
        """Nothing."""

    def advance(self, text: str, cost: float, left: float) -> None:
        """Nothing."""

    def skip(self, cost: float, left: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Lines:
    """One line a unit, with the time left: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, title: str) -> None:
        """Remember where the run began."""
        self._title, self._done = title, 0.0
        self._began: float | None = None

    def advance(self, text: str, cost: float, left: float) -> None:
        """Print the unit and, from the second one on, what is left: the first is a warm-up."""
        self._done += cost
        remaining = ""
        if self._began is None:
            self._began, self._warm_up = time.monotonic(), self._done
        else:
            rate = (time.monotonic() - self._began) / max(self._done - self._warm_up, 1e-9)
            remaining = f", {duration(rate * left)} left"
        share = self._done / max(self._done + left, 1e-9)
        self.note(f"{self._title}  {text}  {share:4.0%}{remaining}")

    def skip(self, cost: float, left: float) -> None:
        """Count it as done, but not as done in this run's time."""
        self._done += cost
        if self._began is not None:
            self._warm_up += cost

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True)


class Bar:
    """A progress bar with the time left, for terminals. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, title: str) -> None:
        """Show a bar for this run in place of the one before."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._done = 0.0
        self._task = self._progress.add_task(title, total=None, text="")

    def advance(self, text: str, cost: float, left: float) -> None:
        """Move the bar."""
        self._move(cost, left)
        assert self._task is not None
        self._progress.update(self._task, text=text)

    def skip(self, cost: float, left: float) -> None:
        """Move the bar."""
        self._move(cost, left)

    def _move(self, cost: float, left: float) -> None:
        assert self._task is not None
        self._done += cost
        self._progress.update(self._task, total=self._done + left, completed=self._done)

    def note(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, highlight=False)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``7 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
