"""The time left: from this run's rate, without its first unit or what an earlier run did."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ferd_eval.runtime.progress import Bar, Lines, SparseLines


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test lets pass."""
    now = [100.0]
    monkeypatch.setattr("ferd_eval.runtime.progress.time.monotonic", lambda: now[0])
    return now


def test_lines_tell_the_time_left(clock):
    written = io.StringIO()
    lines = Lines(Console(file=written, width=200))
    lines.start("net")
    lines.skip(1000.0, 400.0)  # of an earlier run: no rate follows from it
    clock[0] += 90
    lines.advance("first", 100.0, 300.0)  # a warm-up
    clock[0] += 10
    lines.advance("second", 100.0, 200.0)
    clock[0] += 30
    lines.advance("third", 100.0, 50.0)  # more fell than expected
    said = written.getvalue().splitlines()
    assert said[0].endswith("79%")
    assert said[1].endswith("86%, 20 s left")
    assert said[2].endswith("96%, 10 s left")


def test_sparse_lines_come_every_minute_and_not_for_what_is_short(clock):
    written = io.StringIO()
    lines = SparseLines(Console(file=written, width=200))
    lines.start("net")
    for step in range(1, 201):
        clock[0] += 1
        lines.advance(f"step {step}", 1.0, 200.0 - step)
    said = [line.split("  ")[1] for line in written.getvalue().splitlines()]
    assert said == ["step 10", "step 70", "step 130", "step 190"]
    assert "95%, 10 s left" in written.getvalue()
    for epoch in range(3):
        for _ in range(45):
            clock[0] += 1
            lines.advance("step", 1.0, 1.0)
        lines.note(f"epoch {epoch}")
    assert [*written.getvalue().splitlines()][4:] == ["epoch 0", "epoch 1", "epoch 2"]


def test_the_bar_tells_it_for_units_of_minutes_too(clock):
    written = io.StringIO()
    console = Console(file=written, width=120, force_terminal=True)
    with Bar(console) as bar:
        bar.start("net")
        for left in (300.0, 200.0, 100.0):
            clock[0] += 120
            bar.advance("unit", 100.0, left)
        bar._progress.refresh()
    assert "120 s left" in written.getvalue() or "2 min left" in written.getvalue()
