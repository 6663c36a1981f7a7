"""Who carries out the work of a run: this process alone, or workers elsewhere (`cluster.py`).

A task says what is to be done with a network and its images, not where: whoever does it, and in
whichever order, the answer is the same on the same kind of hardware.
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
    """Something to do at a context. It travels between processes, and so does its answer."""

    def do(self, worker: Worker) -> Any:
        """Do it."""


@dataclass(frozen=True, eq=False)
class AttackShard:
    """Attack the images of a unit.

    Attributes:
        unit: which images.
        attack: what they meet.
        threat: within which ball.
        keep_images: whether the perturbed images are wanted.
    """

    unit: Shard
    attack: Attack
    threat: Threat
    keep_images: bool

    def do(self, worker: Worker) -> tuple[pd.DataFrame, NDArray[np.float32] | None]:
        """Rows, with what they cost in their ``attrs``, and the images where wanted."""
        return worker.attack(self.unit, self.attack, self.threat, keep_images=self.keep_images)


@dataclass(frozen=True)
class Examine:
    """Look at the network before its figures are believed.

    Attributes:
        threat: the run's largest ball.
        by_gradient: whether to measure what takes gradients.
        sample: images looked at.
    """

    threat: Threat
    by_gradient: bool
    sample: int

    def do(self, worker: Worker) -> dict[str, Any]:
        """``diagnosis``, and ``folding`` where batch norms were folded."""
        context, folding = worker.context, worker.folding
        diagnosis = diagnose(
            context.model,
            context.data,
            self.threat,
            seed=context.seed,
            batch_size=context.batch_size,
            device=worker.device,
            by_gradient=self.by_gradient,
            sample=self.sample,
        )
        return {"diagnosis": diagnosis, **({"folding": folding.describe()} if folding else {})}


class Executor(Protocol):
    """Carries out tasks, some at once."""

    @property
    def choice(self) -> DeviceChoice:
        """What the tasks are done on."""

    @property
    def has_room(self) -> bool:
        """Whether another task can begin now."""

    def begin(self, ticket: int, context: EvalContext, task: Task) -> None:
        """Take a task on; only where there is room."""

    def wait(self) -> Sequence[tuple[int, Any]]:
        """Tickets and answers of tasks that are done since, after a while; maybe none yet.

        Raises:
            UserError: a task cannot be done.
        """

    def end(self) -> None:
        """Leave; what has not been answered is dropped."""


class SerialExecutor:
    """This process, one task after the other."""

    def __init__(self, choice: DeviceChoice, note: Callable[[str], None]) -> None:
        self._choice, self._note = choice, note
        self._next: tuple[int, EvalContext, Task] | None = None
        self._worker: Worker | None = None

    @property
    def choice(self) -> DeviceChoice:
        """Where."""
        return self._choice

    @property
    def has_room(self) -> bool:
        """One task at a time."""
        return self._next is None

    def begin(self, ticket: int, context: EvalContext, task: Task) -> None:
        """Remember it."""
        self._next = ticket, context, task

    def wait(self) -> Sequence[tuple[int, Any]]:
        """Do it."""
        assert self._next is not None
        ticket, context, task = self._next
        if self._worker is None or self._worker.context is not context:
            self._worker = Worker(context, self._choice.device, self._note)
        answer = task.do(self._worker)
        self._next = None
        return [(ticket, answer)]

    def end(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, eq=False)
class ScheduledTask:
    """A task at a context, and who is told of the answer."""

    context: EvalContext
    task: Task
    keep: Callable[[Any], None]


#: Work that comes in batches: the next batch is asked for once every order of the last one has been
#: kept, in whichever order that came about.
TaskBatches = Iterator[Sequence[ScheduledTask]]


def carry_out(errands: Sequence[TaskBatches], executor: Executor) -> None:
    """Carry out all errands; whoever is free takes the next order of the earliest one.

    Raises:
        UserError: an order cannot be carried out. What was kept before stays kept.
        KeyboardInterrupt: somebody wants to stop; orders under way were kept first.
    """
    waiting: list[tuple[int, int, ScheduledTask]] = []
    under_way: dict[int, tuple[int, ScheduledTask]] = {}
    open_orders = [0] * len(errands)
    tickets = count()

    def call(number: int) -> None:
        """Ask an errand for its next batch that is not empty."""
        for orders in errands[number]:
            for order in orders:
                heapq.heappush(waiting, (number, next(tickets), order))
            if orders:
                open_orders[number] = len(orders)
                return

    for number in range(len(errands)):
        call(number)
    while waiting or under_way:
        while waiting and executor.has_room and not is_asked():
            number, ticket, order = heapq.heappop(waiting)
            under_way[ticket] = number, order
            executor.begin(ticket, order.context, order.task)
        if not under_way:  # only because nothing more was to be begun
            stop_if_asked()
        for ticket, answer in executor.wait():
            number, order = under_way.pop(ticket)
            order.keep(answer)
            open_orders[number] -= 1
            if not open_orders[number]:
                call(number)
