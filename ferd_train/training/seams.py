"""Places between the steps of an epoch where a run may stop and later continue bit-exactly.

A loop of steps iterates over `Seams.steps` and names everything that its steps change and that is
not in the run's state. Objects made before the loop are made again when the run continues, then
overwritten from the saved state.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ferd_eval.runtime.signals import is_asked, take_time
from ferd_train.training.process_group import ALONE, Workers

#: Seconds to wait for a seam after a signal; then the run ends with its last saved state.
PATIENCE = 20.0

# Seconds between two states kept within an epoch.
_INTERVAL = 120.0


class Remembering(Protocol):
    """A network, an optimiser, or the like."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers of them."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Continue from `state_dict`."""


#: An object that steps change in place; a list of tensors in its items.
Part = Remembering | Tensor | torch.Generator | list[Tensor]


@dataclass(frozen=True)
class Seam:
    """A place in an epoch, which is counted from 1: `done` of a phase's `steps` lie behind it."""

    epoch: int
    phase: str
    done: int
    steps: int


class SeamWatcher(Protocol):
    """Notified of seams."""

    def at(self, seam: Seam) -> None:
        """The run reached it."""

    def stopped(self, seam: Seam) -> None:
        """The run is saved here, and ends."""


class Seams:
    """The seams of one run. Nothing happens at them until `attend`.

    Attributes:
        epoch: the current one, counted from 1.
    """

    def __init__(self, workers: Workers = ALONE, device: torch.device | str = "cpu") -> None:
        """For processes that all reach the same seams, and compute on that device."""
        self.epoch = 0
        self._workers, self._device = workers, torch.device(device)
        self._keep: Callable[[], None] | None = None
        self._watcher: SeamWatcher | None = None
        self._kept_at = time.monotonic()
        self._here: dict[str, Any] | None = None
        self._to_go_on_from: Mapping[str, Any] | None = None

    def attend(self, keep: Callable[[], None], watcher: SeamWatcher | None) -> None:
        """From now on, save the run every two minutes, and stop it when a signal asks to.

        `keep` writes the run's state, including `state`; the first process calls it. Silent
        processes have no watcher.
        """
        self._keep, self._watcher = keep, watcher

    def steps(self, phase: str, count: int, parts: Mapping[str, Part]) -> Iterator[int]:
        """Numbers of the steps left in a phase, counted from 0.

        The last step is always among them, so its leftovers need not be saved. `parts` is
        everything that the steps change outside the run's state; `count` is 1 or more.

        Raises:
            KeyboardInterrupt: a signal asked to stop; everything up to here is saved.
        """
        begun = self._restored(phase, parts)
        for step in range(begun or 0, count):
            self._tell(phase, step, count)
            if step != begun:
                self._pause(phase, step, count, parts)
            yield step
        self._tell(phase, count, count)

    @property
    def goes_on(self) -> bool:
        """Whether an earlier process began the current epoch."""
        return self._to_go_on_from is not None

    def state(self) -> dict[str, Any] | None:
        """The place within the epoch; None between epochs."""
        self._kept_at = time.monotonic()
        return self._here

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Continue from `state` when its phase comes."""
        if state is not None:
            own_N = state["parts"][self._workers.rank]
            buffer = io.BytesIO(own_N.numpy().tobytes())
            parts = torch.load(buffer, map_location="cpu", weights_only=True)
            self._to_go_on_from = {**state, "parts": parts}

    def _restored(self, phase: str, parts: Mapping[str, Part]) -> int | None:
        """Restore the parts, and return the steps that an earlier process did; None if none."""
        state, self._to_go_on_from = self._to_go_on_from, None
        if state is None:
            return None
        assert state["phase"] == phase, f"kept in {state['phase']}, not in {phase}"
        for name, part in parts.items():
            _restore(part, state["parts"][name], self._device)
        return int(state["done"])

    def _tell(self, phase: str, done: int, steps: int) -> None:
        if self._watcher is not None:
            self._watcher.at(Seam(self.epoch, phase, done, steps))

    def _pause(self, phase: str, done: int, steps: int, parts: Mapping[str, Part]) -> None:
        """Save the run if it is time, and stop if any process was asked to."""
        if self._keep is None:
            return
        is_time = self._workers.is_first and time.monotonic() - self._kept_at >= _INTERVAL
        stops, keeps = self._workers.any(is_asked(), is_time)
        if not (stops or keeps):
            return
        take_time()
        packed = self._workers.exchange(_packed(parts))
        self._here = {"phase": phase, "done": done, "parts": packed}
        if self._workers.is_first:
            self._keep()
        self._here = None
        self._workers.wait()
        if stops:
            if self._watcher is not None:
                self._watcher.stopped(Seam(self.epoch, phase, done, steps))
            raise KeyboardInterrupt


def _packed(parts: Mapping[str, Part]) -> Tensor:
    buffer = io.BytesIO()
    torch.save({name: _remembered(part) for name, part in parts.items()}, buffer)
    return torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def _remembered(part: Part) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, Tensor):
        return part.detach()
    if isinstance(part, list):
        return [each.detach() for each in part]
    return part.state_dict()


@torch.no_grad()
def _restore(part: Part, remembered: Any, device: torch.device) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(remembered)
    elif isinstance(part, Tensor):
        part.copy_(remembered)
    elif isinstance(part, list):
        part[:] = [each.to(device) for each in remembered]
    else:
        part.load_state_dict(remembered)
