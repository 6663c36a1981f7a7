"""``ferd-train`` in a process of its own, forked from a server that has imported torch already."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import ferd_eval.results.manifest
from ferd_train.cli import main
from ferd_train.monitoring.writer import Pictures
from ferd_train.study import process_pool
from tests.train.student_runs import CODE

_work = process_pool._work


def prepare_process() -> None:
    """As the fixtures do here: commits made meanwhile stop no run, and no chart is drawn."""
    ferd_eval.results.manifest.code_state = lambda: CODE
    Pictures._draw_charts = lambda *_, **__: None  # type: ignore[method-assign]
    process_pool._work = work


def work(connection: Connection) -> None:
    """In place of the main function of a study's processes."""
    prepare_process()
    _work(connection)


class Command:
    """A running ``ferd-train``, the first process of its session."""

    def __init__(self, words: Sequence[object], prepare: Callable[[], None] = prepare_process):
        """Started at once.

        Args:
            words: of the command line.
            prepare: called in the process first; importable.
        """
        context = process_pool._context()
        (out, out_there), (err, err_there) = context.Pipe(False), context.Pipe(False)
        self._process = context.Process(
            target=_run,
            args=(out_there, err_there, [*map(str, words)], torch.get_num_threads(), prepare),
        )
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
    out: Connection, err: Connection, words: list[str], threads: int, prepare: Callable[[], None]
) -> None:
    os.setsid()
    for connection, stream in ((out, 1), (err, 2)):
        os.dup2(connection.fileno(), stream)
        connection.close()
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(threads)
    prepare()
    sys.argv = [str(Path(sys.argv[0])), *words]
    main(words)
