"""Schedule of a run's tasks, and the executor that is this process alone.

A task does not depend on its worker: on the same kind of hardware the answer is the same, whichever
worker computes it, in any order. `ray_executor.py` has workers elsewhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from ferd_eval.evaluation.execution.worker import EvalContext, Worker
from ferd_eval.runtime.device import DeviceChoice
from ferd_eval.runtime.signals import is_asked, stop_if_asked

#: Done by a worker; picklable, as is its answer.
Task = Callable[[Worker], Any]


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
        """Numbers and answers of tasks done since, maybe none yet; UserError where one cannot be
        done."""

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
        answer = task(self._worker)
        self._next = None
        return [(number, answer)]

    def end(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class ScheduledTask:
    """A task, the context it runs in, and the callback for its answer."""

    context: EvalContext
    task: Task
    keep: Callable[[Any], None]


#: Yields batches of tasks; each batch starts after the answers of the previous one were kept.
TaskBatches = Iterator[Sequence[ScheduledTask]]


def carry_out(sources: Sequence[TaskBatches], executor: Executor) -> None:
    """Carry out all tasks; a free worker takes the next task of the earliest source.

    UserError: a task cannot be carried out. KeyboardInterrupt: somebody wants to stop, and tasks
    under way were kept first. What was kept before stays kept.
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
