"""Remarks on what a function read or left out: silent in Python, on stderr from a command.

In Python, ``logging.basicConfig(level="INFO")`` asks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ferd_eval.io.escape import one_line

_LOG = logging.getLogger("ferd_eval")


def remark(text: str) -> None:
    """Say it to whoever asked for remarks."""
    _LOG.info("%s", text)


@contextmanager
def remarks_on_stderr() -> Iterator[None]:
    """Print remarks, one a line, with names from files as they are."""
    handler, level = logging.StreamHandler(), _LOG.level
    handler.format = lambda record: one_line(record.getMessage())  # type: ignore[method-assign]
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)
