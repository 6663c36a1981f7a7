"""Processes that run trials, each on one thread.

The number of threads may change the last bit of a result, so it is one, whatever the machine and
however many processes there are. A process that loses its parent ends at once, so that nothing is
written while another process continues the study.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Thread

import torch

from ferd_train.study.trial import Done, Event, Failed, TrialTask, run_trial

Watch = Callable[[TrialTask, Event], None]


def run_in_processes(tasks: Sequence[TrialTask], jobs: int, watch: Watch) -> None:
    """Run trials in their order, as far as possible, in `jobs` processes, 1 or more.

    `watch` is called with every event, in the calling thread.
    """
    waiting = deque(tasks)
    pool: dict[Connection, _Process] = {}
    try:
        while waiting or pool:
            while waiting and len(pool) < jobs:
                process = _Process(waiting.popleft())
                pool[process.connection] = process
            for connection in wait([*pool]):
                assert isinstance(connection, Connection)
                process = pool[connection]
                event = process.receive()
                watch(process.task, event)
                if not isinstance(event, Done | Failed):
                    continue
                if waiting and process.is_alive:
                    process.take(waiting.popleft())
                else:
                    process.end()
                    del pool[connection]
    finally:
        for process in pool.values():
            process.end()


class _Process:
    """Runs one trial at a time."""

    def __init__(self, task: TrialTask) -> None:
        context = _context()
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        with _interrupts_ignored():
            self._process.start()
        theirs.close()
        self.is_alive = True
        self.take(task)

    def take(self, task: TrialTask) -> None:
        self.task = task
        with suppress(OSError):  # it has ended, as `receive` reports
            self.connection.send(task)

    def receive(self) -> Event:
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            return Failed(self._why_ended())
        return event

    def end(self) -> None:
        """At once; unfinished trials are continued another time."""
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
    """Processes started meanwhile ignore Ctrl-C: the parent ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _context() -> SpawnContext | ForkServerContext:
    """On Linux a server imports torch once and is forked, in place of an import per process."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # torch imports its compiler when the first optimizer is made.
    context.set_forkserver_preload([run_trial.__module__, "torch._dynamo"])
    return context


def _work(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server may have been started elsewhere
    torch.set_num_threads(1)
    tasks: SimpleQueue[TrialTask] = SimpleQueue()
    Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    while True:
        run_trial(tasks.get(), connection.send)


def _listen(connection: Connection, tasks: SimpleQueue[TrialTask]) -> None:
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)
