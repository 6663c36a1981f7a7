"""Schedule of a run's tasks, and the executor that is this process alone.

A task says what to do with a network and its images, not where: on the same kind of hardware the
answer is the same whoever computes it, and in whichever order. `ray_executor.py` has workers
elsewhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.attacks import Attack, Threat
from ferd_eval.evaluation.diagnostics import diagnose
from ferd_eval.evaluation.execution.worker import EvalContext, Worker
from ferd_eval.evaluation.shards import Shard
from ferd_eval.runtime.device import DeviceChoice
from ferd_eval.runtime.signals import is_asked, stop_if_asked


class Task(Protocol):
    """Run by a worker; picklable, as is its answer."""

    def do(self, worker: Worker) -> Any:
        """Compute the answer."""


@dataclass(frozen=True, eq=False)
class AttackShard:
    """Attack the images of a shard; `keep_images`: whether the perturbed images are wanted."""

    shard: Shard
    attack: Attack
    threat: Threat
    keep_images: bool

    def do(self, worker: Worker) -> tuple[pd.DataFrame, NDArray[np.float32] | None]:
        """Rows, with their cost in ``attrs``, and the images where wanted."""
        return worker.attack(self.shard, self.attack, self.threat, keep_images=self.keep_images)


@dataclass(frozen=True)
class Diagnose:
    """Look at the network before its figures are believed.

    Attributes:
        threat: the run's largest ball.
        by_gradient: whether to measure what takes gradients.
        sample: images looked at.
        most: images looked at where something looks odd.
    """

    threat: Threat
    by_gradient: bool
    sample: int
    most: int

    def do(self, worker: Worker) -> dict[str, Any]:
        """``diagnosis``, and ``folding`` where batch norms were fused."""
        context, fusion = worker.context, worker.fusion
        diagnosis = diagnose(
            context.model,
            context.data,
            self.threat,
            seed=context.seed,
            batch_size=context.batch_size,
            device=worker.device,
            by_gradient=self.by_gradient,
            sample=self.sample,
            most=self.most,
        )
        return {"diagnosis": diagnosis, **({"folding": fusion.describe()} if fusion else {})}


class Executor(Protocol):
    """Carries out tasks, some at once."""

    @property
    def choice(self) -> DeviceChoice:
        """Device that the tasks run on."""

    @property
    def has_room(self) -> bool:
        """Whether another task can begin now."""

    def begin(self, number: int, context: EvalContext, task: Task) -> None:
        """Take a task on, under a number; only where there is room."""

    def wait(self) -> Sequence[tuple[int, Any]]:
        """Numbers and answers of tasks that are done since, after a while; maybe none yet.

        Raises:
            UserError: a task cannot be done.
        """

    def end(self) -> None:
        """Leave; unanswered tasks are dropped."""


class SerialExecutor:
    """This process, one task after the other."""

    def __init__(self, choice: DeviceChoice, note: Callable[[str], None]) -> None:
        self.choice, self._note = choice, note
        self._next: tuple[int, EvalContext, Task] | None = None
        self._worker: Worker | None = None

    @property
    def has_room(self) -> bool:
        return self._next is None

    def begin(self, number: int, context: EvalContext, task: Task) -> None:
        self._next = number, context, task

    def wait(self) -> Sequence[tuple[int, Any]]:
        assert self._next is not None
        number, context, task = self._next
        if self._worker is None or self._worker.context is not context:
            self._worker = Worker(context, self.choice.device, self._note)
        answer = task.do(self._worker)
        self._next = None
        return [(number, answer)]

    def end(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class ScheduledTask:
    """A task, the context it runs in, and what is called with its answer."""

    context: EvalContext
    task: Task
    keep: Callable[[Any], None]


#: Yields batches of tasks; each batch starts after the answers of the previous one were kept.
TaskBatches = Iterator[Sequence[ScheduledTask]]


def carry_out(sources: Sequence[TaskBatches], executor: Executor) -> None:
    """Carry out all tasks; a free worker takes the next task of the earliest source.

    Raises:
        UserError: a task cannot be carried out. What was kept before stays kept.
        KeyboardInterrupt: somebody wants to stop; tasks under way were kept first.
    """
    waiting: list[tuple[int, int, ScheduledTask]] = []
    under_way: dict[int, tuple[int, ScheduledTask]] = {}
    unanswered = [0] * len(sources)
    numbers = count()

    def next_batch(source: int) -> None:
        """Queue the next batch of a source that is not empty."""
        for batch in sources[source]:
            for scheduled in batch:
                heapq.heappush(waiting, (source, next(numbers), scheduled))
            if batch:
                unanswered[source] = len(batch)
                return

    for source in range(len(sources)):
        next_batch(source)
    while waiting or under_way:
        while waiting and executor.has_room and not is_asked():
            source, number, scheduled = heapq.heappop(waiting)
            under_way[number] = source, scheduled
            executor.begin(number, scheduled.context, scheduled.task)
        if not under_way:  # only because nothing more was to be begun
            stop_if_asked()
        for number, answer in executor.wait():
            source, scheduled = under_way.pop(number)
            scheduled.keep(answer)
            unanswered[source] -= 1
            if not unanswered[source]:
                next_batch(source)
