"""A run's figures for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ferd_train.monitoring.epoch_log import StudentLog

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoard:
    """Events in a folder; without the package ``tensorboard`` nothing is written."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when there is something to write."""
        self._folder = folder
        self._installed = find_spec("tensorboard") is not None
        self._writer: SummaryWriter | None = None
        self._written = 0

    def write(self, logs: Sequence[StudentLog]) -> None:
        """Add the events of the logs since the last call.

        The first call writes all of them, in place of those that a killed run has written.
        """
        if not self._installed:
            return
        if self._writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            # A purge makes readers drop the steps of earlier files. The files stay: a running
            # server would never get past a missing one.
            self._writer = SummaryWriter(self._folder, purge_step=0)
        for log in logs[self._written :]:
            for tag, value in scalars(log):
                self._writer.add_scalar(tag, value, log.epoch)
        self._written = len(logs)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def scalars(log: StudentLog) -> Iterator[tuple[str, float]]:
    """Tags and values of an epoch: ``generator_loss``, ``generator_terms/bn``, ``class_weights/3``.

    Figures that were not measured are left out.
    """
    for tag, value in log.flat("/").items():
        if tag != "epoch" and value is not None:
            yield tag, value
