"""Time left from the first steps on: rates of steps by their kind, checked by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ferd_eval.runtime.progress import SparseLines
from ferd_train.monitoring.run_progress import RunProgress
from ferd_train.training.pace import Pace, Phase
from ferd_train.training.seams import Seam

PHASES = {"image step": Phase(10, 3), "student step": Phase(20, 6, begins=3)}


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("ferd_train.training.pace.time.monotonic", lambda: now[0])
    return now


def test_steps_that_were_not_timed_cost_by_their_passes(clock):
    pace = Pace(PHASES, epochs=4)
    assert pace.at(Seam(1, "image step", 0, 10)) is None
    clock[0] += 50  # warms up
    assert pace.at(Seam(1, "image step", 1, 10)) == 50
    clock[0] += 2
    seam = Seam(1, "image step", 2, 10)
    assert pace.at(seam) == 2
    # 38 steps of 2 s, and in two epochs 20 steps of twice as many passes.
    assert pace.left(seam) == pytest.approx(38 * 2 + 40 * 4)
    assert pace.done(seam) == pytest.approx(2 * 2)


def test_each_kind_of_step_has_a_rate_of_its_own(clock):
    pace = Pace(PHASES, epochs=4)
    for done in range(11):
        pace.at(Seam(3, "image step", done, 10))
        clock[0] += 2
    clock[0] += 5  # 7 s from the last image step to the student's first
    pace.at(Seam(3, "student step", 0, 20))
    for done in (1, 2, 3):
        clock[0] += 1
        pace.at(Seam(3, "student step", done, 20))
    left = pace.left(Seam(3, "student step", 3, 20))
    assert left == pytest.approx(17 * 1 + 10 * 2 + 7 + 20 * 1)
    last = Seam(4, "student step", 20, 20)
    assert pace.left(last) == 0
    assert pace.done(last) == pytest.approx(4 * 20 + 2 * (7 + 20))


def test_a_run_that_goes_on_counts_its_own_steps_alone(clock):
    """A seam that is not the next one, as after a stop, times nothing."""
    pace = Pace(PHASES, epochs=4)
    for epoch, done, seconds in ((1, 8, 0), (1, 9, 3), (2, 4, 100), (2, 5, 3), (2, 6, 3)):
        clock[0] += seconds
        pace.at(Seam(epoch, "image step", done, 10))
    seam = Seam(2, "image step", 6, 10)
    assert pace.left(seam) == pytest.approx(24 * 3 + 40 * 6)


def test_the_first_estimate_comes_after_a_few_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ferd_eval.runtime.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("ferd_train.training.pace.time.monotonic", lambda: now[0])
    written = io.StringIO()
    reporter = SparseLines(Console(file=written, width=200))
    progress = RunProgress(reporter, "seed 0", {"step": Phase(100, 1)}, epochs=2)
    for done in range(4):
        progress.at(Seam(1, "step", done, 100))
        now[0] += 6
    assert written.getvalue().splitlines() == [
        "seed 0  epoch 1/2, step 2/100    1%, 20 min left",
    ]
    progress.stopped(Seam(1, "step", 4, 100))
    last = written.getvalue().splitlines()[-1]
    assert last == "stopped in epoch 1/2, step 4/100; all up to there is kept."
