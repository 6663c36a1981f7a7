"""Wall clock of a piece of work, also of one that a later process goes on with."""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since its making, or its last lap."""
        return time.perf_counter() - self._began

    def lap(self) -> float:
        """Seconds so far; then it starts anew."""
        seconds = self.seconds
        self._began += seconds
        return seconds

    def set(self, seconds: float) -> None:
        """Go on from there."""
        self._began = time.perf_counter() - seconds
