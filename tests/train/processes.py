"""Processes of their own, forked from a server that has imported torch already."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

import ferd_eval.results.manifest
from ferd_train.cli import main
from ferd_train.monitoring.writer import Pictures
from ferd_train.study import process_pool
from tests.train.student_runs import CODE

_work = process_pool._work


def no_charts() -> None:
    """Drawing takes longer than a tiny run."""
    Pictures._draw_charts = lambda *_, **__: None  # type: ignore[method-assign]


def same_code() -> None:
    """Commits made meanwhile stop no run."""
    ferd_eval.results.manifest.code_state = lambda: CODE


def work(connection: Connection) -> None:
    """In place of the main function of a study's processes."""
    no_charts()
    same_code()
    _work(connection)


def work_on_ray(*arguments: Any) -> None:
    """In place of what a study's workers on Ray do."""
    from ferd_train.study import ray_pool

    no_charts()
    same_code()
    ray_pool._work(*arguments)


def ferd_train(words: list[str]) -> None:
    """The command."""
    no_charts()
    same_code()
    process_pool._work = work
    sys.argv = ["ferd-train", *words]
    main(words)


class Process:
    """A running command, the first process of its session."""

    def __init__(
        self,
        words: Sequence[object],
        run: Callable[[list[str]], None] = ferd_train,
        **environment: object,
    ) -> None:
        """Started at once.

        Args:
            words: of the command line.
            run: called with these; importable.
            environment: variables of the process.
        """
        context = process_pool._context()
        (out, out_there), (err, err_there) = context.Pipe(False), context.Pipe(False)
        variables = {name: str(value) for name, value in environment.items()}
        arguments = (out_there, err_there, torch.get_num_threads(), variables, run)
        self._process = context.Process(target=_run, args=(*arguments, [*map(str, words)]))
        self._process.start()
        out_there.close()
        err_there.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(each.fileno())) for each in (out, err))
        assert self._process.pid is not None
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str, str]:
        """Exit status, and what is left of both streams once all its processes have closed them."""
        with self.stdout, self.stderr:
            err = self.stderr.read()
            out = self.stdout.read()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode, out, err


def _run(
    out: Connection,
    err: Connection,
    threads: int,
    environment: dict[str, str],
    run: Callable[[list[str]], None],
    words: list[str],
) -> None:
    os.setsid()
    for connection, stream in ((out, 1), (err, 2)):
        os.dup2(connection.fileno(), stream)
        connection.close()
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    torch.set_num_threads(threads)
    run(words)
