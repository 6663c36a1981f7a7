"""Pictures and events in a student's run folder, refreshed while it trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ferd_eval.io.files import write_atomically
from ferd_train.monitoring import charts
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.monitoring.gallery import gallery
from ferd_train.monitoring.tensorboard import TensorBoard
from ferd_train.synthesis.image_bank import Bank

# Seconds from one drawing to the next.
_INTERVAL = 30.0


#: Said where matplotlib is missing.
NO_CHARTS = (
    "learning.svg and class_weights.svg are left out, as matplotlib is not installed. For charts: "
    "pip install 'ferd[plots]'"
)


class Pictures:
    """``learning.svg``, and of runs that make images ``class_weights.svg`` and ``images.png``.

    The charts only where matplotlib is installed, events only where TensorBoard is. All follow from
    the figures and the bank, so none is part of a run's state, and a kill between two drawings
    loses nothing.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder, self._class_names = folder, class_names
        self._events = TensorBoard(folder / "tensorboard")
        self._drawn: float | None = None

    def refresh(self, logs: Sequence[StudentLog], bank: Bank) -> None:
        """Add the newest events; draw if the last drawing is half a minute old.

        There is at least one epoch's log. A `UserError` if the folder cannot be written to.
        """
        self._events.write(logs)
        if self._drawn is None or time.monotonic() - self._drawn >= _INTERVAL:
            self._draw(logs, bank)

    def finish(self, logs: Sequence[StudentLog], bank: Bank) -> None:
        """Draw the whole run. Arguments and errors as of `refresh`."""
        self._events.write(logs)
        self._events.close()
        self._draw(logs, bank)

    def _draw(self, logs: Sequence[StudentLog], bank: Bank) -> None:
        if charts.installed():
            self._draw_charts(logs, with_weights=len(bank) > 0)
        if len(bank):
            write_atomically(self._folder / "images.png", gallery(bank, self._class_names))
        self._drawn = time.monotonic()

    def _draw_charts(self, logs: Sequence[StudentLog], *, with_weights: bool) -> None:
        figures = {"learning.svg": charts.learning_curves(logs)}
        if with_weights:
            weights_EK = [log.class_weights for log in logs]
            figures["class_weights.svg"] = charts.weight_history(weights_EK, self._class_names)
        for name, figure in figures.items():
            write_atomically(self._folder / name, charts.to_svg(figure))
