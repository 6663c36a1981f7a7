"""A run's state and loop over epochs, shared by teachers and students."""

from __future__ import annotations

import io
import math
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.files import write_atomically
from ferd_eval.runtime.device import DeviceChoice
from ferd_eval.runtime.signals import stop_if_asked
from ferd_train.config.recipe import RunRecipe
from ferd_train.training.pace import Phase
from ferd_train.training.process_group import ALONE, Workers
from ferd_train.training.run_folder import RunFolder, fitting_into_memory
from ferd_train.training.seams import Seams, SeamWatcher


class Stopwatch:
    """Wall clock of a piece of work, also of one that a later process goes on with."""

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
        self._began = time.perf_counter() - seconds


#: Figures of one epoch: a dataclass of plain values.
Log = TypeVar("Log")


class Trainer(ABC, Generic[Log]):
    """Network, optimiser and figures of one run.

    Attributes:
        logs: figures of the finished epochs.
        seams: where the run may be left within an epoch.
        recipe, network, peak_lr, phases: of the run, set by a subclass; `peak_lr` is the recipe's
            learning rate, `phases` are those of an epoch by name, in order.
    """

    recipe: RunRecipe
    network: nn.Module
    peak_lr: float
    phases: dict[str, Phase]
    #: The subject of messages, and the recipe's field of the learning rate.
    subject: ClassVar[str]
    lr_field: ClassVar[str]

    def __init__(self, device: torch.device, workers: Workers = ALONE) -> None:
        self.logs: list[Log] = []
        self.seams = Seams(workers, device)
        self._device, self._workers = device, workers
        self._stopwatch = Stopwatch()

    @property
    def epochs_done(self) -> int:
        return len(self.logs)

    @property
    def is_done(self) -> bool:
        """Whether no epoch is left."""
        return self.epochs_done >= self.recipe.epochs

    @abstractmethod
    def epoch(self) -> Log:
        """Train for one epoch, or the rest of it, and validate.

        Raises:
            UserError: training diverged. The weights are useless, the state saved before is not.
        """

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Everything else that a later process needs."""

    @abstractmethod
    def _load(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state; may raise anything if it does not fit."""

    def complete(
        self,
        run: RunFolder,
        device: DeviceChoice,
        progress: SeamWatcher | None,
        after_epoch: Callable[[Log], None],
    ) -> None:
        """Train the epochs that are left; the first process saves and reports each.

        `progress` is told of each step, and None for processes that say nothing. `after_epoch` is
        called with the figures once the state is saved.

        Raises:
            UserError: a batch does not fit into memory, or training diverged.
            KeyboardInterrupt: a signal asked to stop; everything up to the last step is kept.
        """
        self.seams.attend(partial(self.keep, run.state), progress)
        while not self.is_done:
            with fitting_into_memory(self.recipe.batch_size, device):
                log = self.epoch()
            if self._workers.is_first:
                self.save(run.state)
                run.write_figures([vars(each) for each in self.logs])
                after_epoch(log)
            stop_if_asked()

    def keep(self, file: Path) -> None:
        """`save` within an epoch.

        Raises:
            UserError: training diverged; the state saved before stays.
        """
        self._require_finite()
        self.save(file)

    def save(self, file: Path) -> None:
        """Write everything a later process needs, except a bank, whole or not at all."""
        state = {
            "logs": [vars(log) for log in self.logs],
            "seconds": self._stopwatch.seconds,
            "seam": self.seams.state(),
        }
        write_state(file, {**self._state(), **state})

    def _resume(self, file: Path) -> None:
        """Continue from a saved state.

        Raises:
            UserError: the file is damaged.
        """

        def load(state: Mapping[str, Any]) -> None:
            self._load(state)
            # Older states lie between two epochs and have neither.
            self._stopwatch.set(state.get("seconds", 0.0))
            self.seams.load_state(state.get("seam"))

        read_state(file, load)

    def _require_finite(self, loss: float = 0.0, **others: bool) -> None:
        """The last step may have spoilt the weights after the last finite loss.

        `loss` is the epoch's mean; `others` say by name whether each is finite.
        """
        weights = all(bool(each.isfinite().all()) for each in self.network.state_dict().values())
        are_finite = {"weights": weights, f"loss {loss:g}": math.isfinite(loss), **others}
        if all(are_finite.values()):
            return
        broken = ", ".join(name for name, is_finite in are_finite.items() if not is_finite)
        kept = " The state kept last is from before that." if self.logs else ""
        raise UserError(
            f"{self.subject} diverged in epoch {self.epochs_done + 1} (not finite: {broken}): lr "
            f"{self.peak_lr:g} is too high. Start again in another folder with a lower one, e.g. "
            f"--set {self.lr_field}={self.peak_lr / 10:g}.{kept}"
        )


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, texts and containers of them, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(file, buffer.getvalue())


def read_state(file: Path, load: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass a state file to `load`, which may raise anything if it does not fit.

    Raises:
        UserError: the file is damaged. It was written whole, so something else broke it, and
            whether to lose its epochs is the user's to say.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch does not look at the checksums
            if archive.testzip() is not None:
                raise ValueError("a checksum is wrong")
        load(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as reason:  # the readers raise whatever their parsers tripped over
        raise UserError(
            f"{file} ({file.stat().st_size} bytes) is damaged, the run cannot be continued "
            f"from it ({message_of(reason, 100)}). Delete "
            "it and run the same command to start again from the first epoch."
        ) from reason
