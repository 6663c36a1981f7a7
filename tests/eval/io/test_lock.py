"""One writing process at a time in a folder, and what killed ones left there."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ferd_eval.errors import UserError
from ferd_eval.io import lock as folder_lock
from ferd_eval.io.files import remove_leftovers
from ferd_eval.io.lock import LOCK, sole_user

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLDER = """
    import sys, time
    from pathlib import Path
    from ferd_eval.io.lock import sole_user
    with sole_user(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path` / run."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def no_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_told_who_holds_it(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.1)
    with (
        pytest.raises(UserError) as caught,
        sole_user(tmp_path / "run", "--work"),
    ):
        pass
    said = str(caught.value)
    assert f"{tmp_path / 'run'} is in use by process {holder.pid} on {socket.gethostname()}" in said
    assert said.endswith("choose another folder with --work.")
    assert (tmp_path / "run" / LOCK).is_file()  # it is not ours to remove


def test_one_that_is_being_killed_is_waited_for(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 30)
    looks = []

    def looking(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            holder.kill()
            holder.wait()

    monkeypatch.setattr(time, "sleep", looking)
    with sole_user(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert len(looks) >= 2


def test_a_killed_holder_blocks_nobody(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).is_file()  # nobody was left to remove it
    with sole_user(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK).exists()


def test_two_blocks_of_one_process_exclude_each_other_too(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)
    with (
        sole_user(tmp_path),
        pytest.raises(UserError, match=f"process {os.getpid()} on "),
        sole_user(tmp_path),
    ):
        pass
    with sole_user(tmp_path):  # and again, once it is free
        pass


def test_a_folder_that_stays_empty_is_removed_and_others_are_not(tmp_path):
    with sole_user(tmp_path / "new"):
        pass
    with sole_user(tmp_path / "used"):
        (tmp_path / "used" / "result").touch()
    (tmp_path / "before").mkdir()
    with sole_user(tmp_path / "before"):
        pass
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "before",
        "used",
        "used/result",
    ]


def test_a_file_system_without_locks_is_said_and_work_goes_on(tmp_path, monkeypatch):
    def without(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", without)
    notes: list[str] = []
    with sole_user(tmp_path / "run", note=notes.append):
        (tmp_path / "run" / "result").touch()
    assert len(notes) == 1
    assert "has no locks (No locks available)" in notes[0]


def test_a_lock_file_removed_by_its_last_holder_is_not_held(tmp_path, monkeypatch):
    """Between opening and locking the file may have become nobody's: a lock on it locks no one."""
    import fcntl

    real, calls = fcntl.flock, []

    def flock(file: int, operation: int) -> None:
        calls.append(file)
        real(file, operation)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr("fcntl.flock", flock)
    with sole_user(tmp_path):
        assert (tmp_path / LOCK).is_file()
    assert len(calls) == 2


def test_torn_or_foreign_words_in_the_lock_do_no_harm(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)
    for words in ("", '{"pid": 1', "[]", '"text"'):
        (tmp_path / "run" / LOCK).write_text(words)
        with (
            pytest.raises(UserError, match="in use by another process"),
            sole_user(tmp_path / "run"),
        ):
            pass


def test_unfinished_files_of_the_dead_are_swept_and_of_the_living_are_not(tmp_path):
    below = tmp_path / "adversarial"
    below.mkdir()
    dead, mine, living = no_process(), os.getpid(), os.getppid()
    swept = [tmp_path / f".a.npz.{dead}.part", below / f".b.npz.{mine}.part"]
    kept = [
        below / f".c.npz.{living}.part",
        tmp_path / ".d.part",
        tmp_path / f"e.{dead}.part",  # not hidden: not ours
        Path(tmp_path / ".config"),
    ]
    for file in (*swept, *kept):
        file.touch()
    remove_leftovers(tmp_path, below)
    assert not [file for file in swept if file.exists()]
    assert all(file.exists() for file in kept)
    with sole_user(tmp_path, below=("adversarial", "missing")):
        assert all(file.exists() for file in kept)
