"""Runs to report on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run() -> MakeRun:
    """A scored, made-up run; arguments as in `simulated_run.simulate`."""
    from tests.eval.metrics.simulated_run import simulate

    def make(name: str = "model.pt", *args: Any, groups: Any = None, **kwargs: Any) -> Run:
        outcomes = simulate(*args, **kwargs)
        return Run(name, scorecard(outcomes, groups), outcomes.manifest)

    return make
