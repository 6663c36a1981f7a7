"""Processes that carry out the cells of a study, each on one thread.

The number of threads may change the last bit of a result, so it is one whatever the machine and
however many processes there are. A process that loses its parent ends at once: nothing is written
behind the back of whoever continues the study.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Thread

import torch

from ferd_train.study.trial import Done, Event, Failed, Task, carry_out

Watch = Callable[[Task, Event], None]


def carry_out_all(tasks: Sequence[Task], jobs: int, watch: Watch) -> None:
    """Carry out tasks, in their order as far as it goes, so many at once.

    Args:
        tasks: each of another folder.
        jobs: processes, 1 or more.
        watch: told of everything that happens, by the calling thread.
    """
    waiting = deque(tasks)
    crew: dict[Connection, _Worker] = {}
    try:
        while waiting or crew:
            while waiting and len(crew) < jobs:
                worker = _Worker(waiting.popleft())
                crew[worker.connection] = worker
            for connection in wait([*crew]):
                assert isinstance(connection, Connection)
                worker = crew[connection]
                event = worker.receive()
                watch(worker.task, event)
                if not isinstance(event, Done | Failed):
                    continue
                if waiting and worker.is_alive:
                    worker.take(waiting.popleft())
                else:
                    worker.end()
                    del crew[connection]
    finally:
        for worker in crew.values():
            worker.end()


class _Worker:
    """A process with one task at a time."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        with _interrupts_ignored():
            self._process.start()
        theirs.close()
        self.is_alive = True
        self.take(task)

    def take(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it has ended, which `receive` says
            self.connection.send(task)

    def receive(self) -> Event:
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            return Failed(self._why_ended())
        return event

    def end(self) -> None:
        """At once: whatever a task has not finished is continued another time."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _why_ended(self) -> str:
        self._process.join(timeout=10)
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"its process was ended by {name}; if memory ran short, take fewer --jobs."
        return f"its process ended with status {code}; run the same command again."


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """What is started meanwhile ignores Ctrl-C: it is for the parent to end it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection) -> None:
    """A worker's whole life."""
    torch.set_num_threads(1)
    tasks: SimpleQueue[Task] = SimpleQueue()
    Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    while True:
        carry_out(tasks.get(), connection.send)


def _listen(connection: Connection, tasks: SimpleQueue[Task]) -> None:
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)
