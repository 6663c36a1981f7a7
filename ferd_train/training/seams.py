"""Places between the steps of an epoch, where a run may be left and be continued to the bit.

A loop of steps goes over `Seams.steps`, to which it names all that its steps change and that is no
part of the run's state otherwise. What is made before the loop is made again when the run is
continued, then overwritten by what was kept.
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

#: Seconds from a signal in which a seam should come, else the run is left as it was kept last.
PATIENCE = 20.0

# Seconds between two states kept within an epoch.
_INTERVAL = 120.0


class Remembering(Protocol):
    """A network, an optimiser, or what can do as they do."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers of them."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Go on from what `state_dict` gave."""


#: What steps change: in place, a list of tensors in its items.
Part = Remembering | Tensor | torch.Generator | list[Tensor]


@dataclass(frozen=True)
class Seam:
    """A place in an epoch.

    Attributes:
        epoch: counted from 1.
        phase: what its steps are called.
        done: steps of it that are done.
        steps: that it has.
    """

    epoch: int
    phase: str
    done: int
    steps: int


class SeamWatcher(Protocol):
    """Told of seams."""

    def at(self, seam: Seam) -> None:
        """It was come to."""

    def stopped(self, seam: Seam) -> None:
        """The run is kept as of here, and left."""


class Seams:
    """The seams of one run. Unattended, they are passed over.

    Attributes:
        epoch: at hand, counted from 1; its steps follow.
    """

    def __init__(self, workers: Workers = ALONE, device: torch.device | str = "cpu") -> None:
        """Of processes that all come to the same seams, and compute on that device."""
        self.epoch = 0
        self._workers, self._device = workers, torch.device(device)
        self._keep: Callable[[], None] | None = None
        self._watcher: SeamWatcher | None = None
        self._kept_at = time.monotonic()
        self._here: dict[str, Any] | None = None
        self._to_go_on_from: Mapping[str, Any] | None = None

    def attend(self, keep: Callable[[], None], watcher: SeamWatcher | None) -> None:
        """From now on, keep the run every other minute, and leave it when that is asked for.

        Args:
            keep: writes the run's state, with `state` in it; called by the first process.
            watcher: None for processes that say nothing.
        """
        self._keep, self._watcher = keep, watcher

    def steps(self, phase: str, count: int, parts: Mapping[str, Part]) -> Iterator[int]:
        """Numbers of the steps that are left of a phase, counted from 0.

        The last step is always among them, so what it leaves behind need not be kept.

        Args:
            phase: what its steps are called.
            count: its steps, 1 or more.
            parts: all that they change and that is no part of the run's state otherwise.

        Raises:
            KeyboardInterrupt: somebody wants to stop; all up to here was kept.
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
        """Whether the epoch at hand was begun by an earlier process."""
        return self._to_go_on_from is not None

    def state(self) -> dict[str, Any] | None:
        """The place within the epoch; None between two."""
        self._kept_at = time.monotonic()
        return self._here

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what `state` gave, when its phase comes."""
        if state is not None:
            own = state["parts"][self._workers.rank]
            self._to_go_on_from = {**state, "parts": _unpacked(own)}

    def _restored(self, phase: str, parts: Mapping[str, Part]) -> int | None:
        """How many steps an earlier process did, with the parts as they then were; None if none."""
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
        """Keep the run if it is time to, and leave it if that was asked of any process."""
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
    """What parts remember, as bytes."""
    buffer = io.BytesIO()
    torch.save({name: _remembered(part) for name, part in parts.items()}, buffer)
    return torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy())


def _unpacked(packed_N: Tensor) -> dict[str, Any]:
    """What `_packed` packed; nothing in it is executed."""
    buffer = io.BytesIO(packed_N.numpy().tobytes())
    remembered: dict[str, Any] = torch.load(buffer, map_location="cpu", weights_only=True)
    return remembered


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
