"""Commands, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ferd_eval.cli import app
from ferd_eval.runtime.command_line import run


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``ferd-eval``; its status, output and error output."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(app, list(map(str, arguments)), "ferd-eval")
        return status, *capsys.readouterr()

    return call
