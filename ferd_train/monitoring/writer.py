"""What people look at in a student's run folder, while it trains and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ferd_eval.io.files import write_atomically
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.monitoring.gallery import gallery
from ferd_train.monitoring.learning_curves import learning_curves
from ferd_train.monitoring.tensorboard import TensorBoard
from ferd_train.monitoring.weight_history import weight_history
from ferd_train.synthesis.image_bank import Bank

# Seconds from one drawing to the next.
_INTERVAL = 30.0


class Pictures:
    """``images.png``, ``class_weights.svg``, ``learning.svg`` and, where installed, TensorBoard's.

    The first two only of runs that make images.

    All follow from the figures and the bank, so none is part of a run's state, and a kill between
    two drawings loses nothing.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        """Nothing is written yet.

        Args:
            folder: the run's.
            class_names: K of them.
        """
        self._folder, self._class_names = folder, class_names
        self._events = TensorBoard(folder / "tensorboard")
        self._drawn: float | None = None

    def refresh(self, logs: Sequence[StudentLog], bank: Bank) -> None:
        """Add the newest events, and draw if that was not done for half a minute.

        Args:
            logs: figures of the epochs so far; at least one.
            bank: the images so far.

        Raises:
            UserError: the folder cannot be written to.
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
        write_atomically(self._folder / "learning.svg", learning_curves(logs).encode())
        if len(bank):
            weights = weight_history([log.class_weights for log in logs], self._class_names)
            write_atomically(self._folder / "class_weights.svg", weights.encode())
            write_atomically(self._folder / "images.png", gallery(bank, self._class_names))
        self._drawn = time.monotonic()
