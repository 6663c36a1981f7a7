"""Runs to report on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run
from tests.eval.report.chromium import PROGRAM, Chromium

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run() -> MakeRun:
    """A scored, made-up run; arguments as in `simulated_run.simulate`."""
    from tests.eval.metrics.simulated_run import simulate

    def make(name: str = "model.pt", *args: Any, groups: Any = None, **kwargs: Any) -> Run:
        outcomes = simulate(*args, **kwargs)
        return Run(name, scorecard(outcomes, groups), outcomes.manifest)

    return make


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    try:
        browser = Chromium(str(PROGRAM), tmp_path_factory.mktemp("profile"))
    except OSError as reason:
        pytest.skip(f"chromium does not run here: {reason}")
    yield browser
    browser.close()
