"""How much of a training run is done and how long the rest takes, from its steps so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ferd_train.training.seams import Seam


@dataclass(frozen=True)
class Phase:
    """Steps that each epoch has, from some epoch on.

    Attributes:
        steps: an epoch.
        passes: of a batch through a network in a step: its cost until a step of the phase was
            timed.
        begins: first epoch with them, counted from 1.
    """

    steps: int
    passes: float
    begins: int = 1


class Pace:
    """Seconds done and seconds left.

    A step counts as the mean of its phase's steps so far, and the time before a phase's first step
    as its mean so far, 0 until then.
    """

    def __init__(self, phases: Mapping[str, Phase], epochs: int) -> None:
        """Of phases by name, in the order of an epoch."""
        self._phases, self._epochs = phases, epochs
        self._steps = {name: _Mean() for name in phases}
        self._entries = {name: _Mean() for name in phases}
        self._last: tuple[float, Seam] | None = None

    def at(self, seam: Seam) -> float | None:
        """Seconds since the last seam; None at the first."""
        now = time.monotonic()
        before, self._last = self._last, (now, seam)
        if before is None:
            return None
        passed, last = now - before[0], before[1]
        if seam.done == 0:
            self._entries[seam.phase].add(passed)
        elif seam.phase == last.phase and seam.done == last.done + 1:
            self._steps[seam.phase].add(passed)
        return passed

    def done(self, seam: Seam) -> float:
        """Seconds of all before a seam, at this pace."""
        everything = Seam(1, next(iter(self._phases)), 0, 1)
        return self.left(everything) - self.left(seam)

    def left(self, seam: Seam) -> float:
        """Seconds of all after a seam."""
        seconds, order = 0.0, [*self._phases]
        for name, phase in self._phases.items():
            whole = max(0, self._epochs + 1 - max(seam.epoch + 1, phase.begins))
            steps, entries = whole * phase.steps, whole
            if seam.epoch >= phase.begins and order.index(name) > order.index(seam.phase):
                steps, entries = steps + phase.steps, entries + 1
            if name == seam.phase:
                steps += phase.steps - seam.done
            seconds += steps * self._step(name) + entries * self._entries[name].value
        return seconds

    def _step(self, name: str) -> float:
        """Seconds of a step, guessed by passes if none was timed."""
        if self._steps[name].count:
            return self._steps[name].value
        timed = [each for each in self._phases if self._steps[each].count]
        passes = sum(self._phases[each].passes for each in timed)
        seconds = sum(self._steps[each].value for each in timed)
        return self._phases[name].passes * seconds / passes if passes else 0.0


class _Mean:
    """Mean of seconds, without the first as soon as there is a second: that one warms up."""

    def __init__(self) -> None:
        self.count, self.value = 0, 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.value += (seconds - self.value) / max(self.count - 1, 1)
