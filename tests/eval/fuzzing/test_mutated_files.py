"""Any file is read, or refused in one line: no crash, no code, no gigabyte, no file written."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from benchmarks.fuzzing.attempt import FINE, attempt
from benchmarks.fuzzing.readers import Reader, readers
from ferd_eval.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
READERS = {reader.name: reader for reader in readers()}

#: These take longest and have a share of their own.
SLOW = ("run-manifest", "run-table", "predictions-npz")


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    if name == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed: pip install 'ferd[onnx]'")
    reader = READERS[name]
    place = reader.lay_out(tmp_path)
    for content in reader.seeds:
        outcome = attempt(reader, content, place, tmp_path)
        assert outcome.kind == "accepted", outcome


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(number=st.integers(100, 10**9))
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path, number: int) -> None:
    if name in SLOW and number % 3:
        return
    reader = READERS[name]
    outcome = attempt(reader, reader.input(number, 0), reader.lay_out(tmp_path), tmp_path)
    assert outcome.kind in FINE, f"input {number}: {outcome.said}\n{outcome.trace}"


def test_an_input_follows_from_its_number_alone() -> None:
    again = {reader.name: reader for reader in readers()}
    for reader in READERS.values():
        assert reader.input(123, 0) == again[reader.name].input(123, 0)
        assert len({reader.input(number, 0) for number in range(100, 120)}) > 5


def test_the_command_counts_within_limits_and_goes_on(tmp_path: Path) -> None:
    """In processes that may take a gigabyte more than they start with."""
    names = ("safetensors", "npz", "checkpoint-legacy", "idx-gz")
    command = [sys.executable, "-m", "benchmarks.fuzz", "--only", ",".join(names)]
    for inputs in (20, 30):
        done = subprocess.run(
            [*command, "--inputs", str(inputs), "--out", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:6]]
        assert [(row[0], row[1]) for row in rows] == [(name, str(inputs)) for name in names]
        assert all(int(row[2]) + int(row[3]) == inputs for row in rows)
    tally = json.loads((tmp_path / "npz.json").read_text())
    assert tally["done"] == 30
    assert tally["peak"] < 2**30


# --- The watch hears what it should --------------------------------------------------------------


def run_code(folder: Path) -> object:
    return pickle.loads((folder / "x").read_bytes())


def start_a_program(folder: Path) -> object:
    return os.system("true")


def evaluate(folder: Path) -> object:
    return eval("1 + 1")


def write_outside(folder: Path) -> object:
    return (folder.parent / "written").write_text("x")


def write_inside(folder: Path) -> object:
    return (folder / "written").write_text("x")


def look_elsewhere(folder: Path) -> object:
    return (folder.parent / "secret").read_text()


def raise_what_is_no_user_error(folder: Path) -> object:
    raise KeyError("x")


def return_something_else(folder: Path) -> object:
    return 3


def fill_memory(folder: Path) -> object:
    try:
        raise MemoryError
    except MemoryError as reason:
        raise UserError("it cannot be read.") from reason


@pytest.mark.parametrize(
    ("read", "kind", "said"),
    [
        (run_code, "code", "canary"),
        (start_a_program, "code", "os.system"),
        (evaluate, "code", "exec of <string>"),
        (write_outside, "code", "to write"),
        (write_inside, "code", "to write"),
        (look_elsewhere, "code", "secret"),
        (raise_what_is_no_user_error, "uncaught", "KeyError"),
        (return_something_else, "uncaught", "int"),
        (fill_memory, "memory", "cannot be read"),
    ],
)
def test_a_bad_reader_is_caught(
    read: Callable[[Path], object], kind: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "inner"
    reader = Reader("bad", "x", (b"cferd_canary\nrun\n)R.",), read, str)
    (found,) = (
        attempt(each, each.seeds[0], each.lay_out(folder), folder) for each in (replace(reader),)
    )
    assert found.kind == kind
    assert said in found.said


# --- What ends a process -------------------------------------------------------------------------


def run_for_ever(folder: Path) -> object:
    while (folder / "x").read_bytes() == b"bad":
        pass
    return ""


def wait_for_ever(folder: Path) -> object:
    while (folder / "x").read_bytes() == b"bad":
        time.sleep(0.01)
    return ""


def fall_over(folder: Path) -> object:
    if (folder / "x").read_bytes() == b"bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return ""


def ask_for_more_than_a_gigabyte(folder: Path) -> object:
    return str(len(bytearray(3 << 29 if (folder / "x").read_bytes() == b"bad" else 1)))


@dataclass(frozen=True)
class Third(Reader):
    """Its fourth input is bad."""

    def input(self, number: int, seed: int) -> bytes:
        return b"bad" if number == 3 else b"good"


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (run_for_ever, "hung"),
        (wait_for_ever, "hung"),
        (fall_over, "crashed"),
        (ask_for_more_than_a_gigabyte, "memory"),
    ],
)
def test_what_ends_a_process_is_counted_and_the_rest_is_read(
    read: Callable[[Path], object], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE", 0.3)
    monkeypatch.setattr(fuzz, "WAITING", 1.0)
    tally = fuzz.fuzz(Third("bad", "x", (b"good",), read, str), 6, 0, tmp_path)
    assert tally.kinds == {"accepted": 5, kind: 1}
    assert not tally.is_clean
    assert (tmp_path / f"bad-3-{kind}").read_bytes() == b"bad"
    assert "--number 3" in (tmp_path / f"bad-3-{kind}.txt").read_text()
