"""Progress of a training run between its epochs' lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ferd_eval.runtime.console import console
from ferd_eval.runtime.progress import Bar, ProgressReporter, SparseLines
from ferd_train.training.pace import Pace, Phase
from ferd_train.training.seams import Seam


class RunProgress:
    """Reports each step: where the run is, and the time left."""

    def __init__(
        self, reporter: ProgressReporter, title: str, phases: Mapping[str, Phase], epochs: int
    ) -> None:
        """Of a new or continued run with these phases in each of its epochs, in order."""
        self._reporter, self._epochs = reporter, epochs
        self._pace, self._begun = Pace(phases, epochs), False
        reporter.start(title)

    def at(self, seam: Seam) -> None:
        passed = self._pace.at(seam)
        if passed is None:
            return
        left = self._pace.left(seam)
        if not self._begun:
            self._reporter.skip(max(self._pace.done(seam) - passed, 0.0), left)
            self._begun = True
        self._reporter.advance(self._words(seam), passed, left)

    def stopped(self, seam: Seam) -> None:
        self._reporter.note(f"stopped in {self._words(seam)}; all up to there is kept.")

    def _words(self, seam: Seam) -> str:
        return f"epoch {seam.epoch}/{self._epochs}, {seam.phase} {seam.done}/{seam.steps}"


@contextmanager
def watching() -> Iterator[ProgressReporter]:
    """A bar on a terminal, elsewhere a line a minute."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield SparseLines(screen)
        return
    with Bar(screen) as bar:
        yield bar
