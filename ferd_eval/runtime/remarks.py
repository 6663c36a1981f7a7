"""Remarks on what a function read or left out: silent in Python, on stderr from a command.

In Python, ``logging.basicConfig(level="INFO")`` asks for them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ferd_eval.io.escape import one_line

_LOG = logging.getLogger("ferd_eval")

# Not a handler of the logger: a library that configures logging may disable it.
_ON_STDERR: ContextVar[bool] = ContextVar("on_stderr", default=False)


def remark(text: str) -> None:
    """Say it to whoever asked for remarks."""
    if _ON_STDERR.get():
        print(one_line(text), file=sys.stderr)
    else:
        _LOG.info("%s", text)


@contextmanager
def remarks_on_stderr() -> Iterator[None]:
    """Print remarks, one a line, with names from files as they are."""
    before = _ON_STDERR.set(True)
    try:
        yield
    finally:
        _ON_STDERR.reset(before)
