"""Runs to report on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run

# The made-up run lives beside the tests of the metrics.
sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run() -> MakeRun:
    """A scored, made-up run; arguments as in `simulated_run.simulate`."""
    from simulated_run import simulate

    def make(name: str = "model.pt", *args: Any, groups: Any = None, **kwargs: Any) -> Run:
        outcomes = simulate(*args, **kwargs)
        return Run(name, scorecard(outcomes, groups), outcomes.manifest)

    return make
