"""Signals are heard where nothing is lost."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from ferd_eval.runtime import signals as interruption
from ferd_eval.runtime.signals import (
    is_asked,
    stop_if_asked,
    stopping_after,
    take_time,
    terminating_as_interrupting,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def usual_handlers():
    """Whoever runs the tests in the background may ignore interrupts."""
    before = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_for_a_good_place(number, capfd):
    done = []

    def work() -> None:
        stop_if_asked()
        signal.raise_signal(number)
        assert is_asked()
        done.append("the epoch at hand")
        stop_if_asked()
        done.append("another one")

    with pytest.raises(KeyboardInterrupt), stopping_after("epoch"):
        work()
    assert done == ["the epoch at hand"]
    assert not is_asked()
    said = capfd.readouterr().err
    assert said.splitlines() == [
        "interrupted: the epoch at hand is finished and kept first, which may take minutes; "
        "Ctrl-C again stops at once."
    ]


def test_the_second_signal_does_not_wait():
    done = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("first")
        signal.raise_signal(signal.SIGINT)
        done.append("second")

    with pytest.raises(KeyboardInterrupt), stopping_after("unit"):
        work()
    assert done == ["first"]
    assert not is_asked()


@pytest.mark.parametrize(("seconds", "is_second"), [(0.5, False), (1.5, True)])
def test_a_term_right_after_a_signal_is_its_echo(monkeypatch, seconds, is_second):
    """``timeout`` and Slurm send it to a process and to its group."""
    clock = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: clock[0])
    done = []

    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        clock[0] += seconds
        signal.raise_signal(signal.SIGTERM)
        done.append("the unit at hand")

    with pytest.raises(KeyboardInterrupt), stopping_after("unit"):
        work()
    assert bool(done) != is_second


@pytest.mark.parametrize("number", SIGNALS)
def test_what_takes_longer_than_the_patience_is_not_waited_for(number, monkeypatch, capfd):
    monkeypatch.setattr(interruption, "_ECHO", 0.01)
    left = iter(range(10_000))

    def work() -> None:
        signal.raise_signal(number)
        for _ in left:
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), stopping_after("step", 0.05):
        work()
    assert next(left, None) is not None
    assert "no more than 0 s" in capfd.readouterr().err


def test_what_is_being_kept_is_waited_for():
    done = []

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        take_time()
        time.sleep(0.2)
        done.append("kept")
        stop_if_asked()
        done.append("another step")

    with pytest.raises(KeyboardInterrupt), stopping_after("step", 0.05):
        work()
    assert done == ["kept"]


def test_patience_ends_with_the_block():
    with pytest.raises(KeyboardInterrupt), stopping_after("step", 0.05):
        signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)


def test_a_signal_that_came_too_late_to_wait_ends_the_block():
    with pytest.raises(KeyboardInterrupt), stopping_after("unit"):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("block", [stopping_after("unit"), terminating_as_interrupting()])
def test_ignored_signals_stay_ignored_and_handlers_come_back(block):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in SIGNALS]
    with block:
        signal.raise_signal(signal.SIGINT)
        assert not is_asked()
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_handlers_come_back_after_an_error_too():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), stopping_after("unit"):
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_within_a_command_a_term_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), terminating_as_interrupting():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_outside_the_main_thread_nothing_is_changed():
    found = []

    def work():
        with stopping_after("unit"), terminating_as_interrupting():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_outside_of_the_block_nobody_is_asked():
    assert not is_asked()
    stop_if_asked()
