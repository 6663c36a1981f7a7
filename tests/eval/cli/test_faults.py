"""What may happen to a run from outside: each time one clear line, and the same end."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_eval.cli import app
from ferd_eval.io import lock as folder_lock
from ferd_eval.io.lock import sole_user
from ferd_eval.runtime.command_line import run
from tests.conftest import ROOT, TinyNet, tiny_data

Command = Callable[..., tuple[int, str, str]]

WORDS = [
    "score", "tiny.pt", "--model-file", "net.py:TinyNet", "--dataset", "npz:images.npz",
    "--attacks", "fgsm,pgd,targeted", "--eps", "0.06", "--batch-size", "32", "--save-adv",
    "--steps", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A checkpoint, its factory and images in a folder, and an undisturbed run of them."""
    folder = tmp_path_factory.mktemp("place")
    data = tiny_data(200)
    np.savez(folder / "images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    torch.save(TinyNet().state_dict(), folder / "tiny.pt")
    path = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    (folder / "net.py").write_text(f"{path}from tests.conftest import TinyNet\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(app, [*WORDS, "--out", "whole"], "ferd-eval") == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def command(place, run_command, monkeypatch) -> Command:
    """Score into a folder; status, output and error output."""
    monkeypatch.chdir(place)
    return lambda out: run_command(*WORDS, "--out", out)


def assert_same_end(place: Path, out: str) -> None:
    for name in ("outcomes.parquet", "scorecard.json", "report.csv", "report_wide.csv"):
        assert (place / out / name).read_bytes() == (place / "whole" / name).read_bytes(), name
    for file in (place / "whole/adversarial").iterdir():
        ours, theirs = np.load(place / out / "adversarial" / file.name), np.load(file)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)
    left = {path.name for path in (place / out).rglob(".*")}
    assert not left


def last_line(err: str) -> str:
    assert "Traceback" not in err
    return err.splitlines()[-1]


# The disk


class Disk:
    """Takes so many files, and then none."""

    def __init__(self, files: int, number: int) -> None:
        self.left, self.number = files, number
        self._real = os.fsync

    def fsync(self, file: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        self._real(file)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded"),
     (errno.EIO, "Input/output error")],
)  # fmt: skip
def test_a_disk_that_fills_up_again_and_again(command, place, monkeypatch, number, words):
    out = f"disk{number}"
    for files in range(60):
        disk = Disk(files, number)
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", disk.fsync)
            status, printed, err = command(out)
        if disk.left >= 0:
            break
        assert (status, printed) == (2, "")
        line = last_line(err)
        assert line.startswith("error: cannot write ")
        assert words in line
        assert "run the same command again" in line
        assert not [*place.joinpath(out).rglob(".*.part")]
    assert files > 3
    assert status == 0, err
    assert_same_end(place, out)


def test_a_disk_that_is_full_wherever_it_comes_up(command, monkeypatch):
    """Not all that is written goes through one function: libraries write too."""

    def is_full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/somewhere")

    monkeypatch.setattr("ferd_eval.pipeline.write_report", is_full)
    status, _, err = command("somewhere")
    assert status == 2
    assert last_line(err) == (
        "error: /tmp/somewhere: No space left on device. Free some space, or have the disk looked "
        "after, and run the same command again; finished work is kept."
    )
    monkeypatch.undo()


# Two at once


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_two_commands_on_one_folder(command, place, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)
    with sole_user(place / "shared"):
        status, out, err = command("shared")
    assert (status, out) == (2, "")
    assert last_line(err).startswith(f"error: shared is in use by process {os.getpid()} on ")
    assert last_line(err).endswith("or choose another folder with --out.")
    assert command("shared")[0] == 0
    assert_same_end(place, "shared")


# Clocks


def test_clocks_have_no_say(command, place, monkeypatch):
    """Files from the future and the past, and a clock that jumps back with each look."""
    files = Disk(9, errno.ENOSPC)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", files.fsync)
        assert command("clock")[0] == 2
    generator = random.Random(0)
    for file in (place / "clock").rglob("*"):
        moment = generator.choice([1, 4_000_000_000])
        os.utime(file, (moment, moment))
    clock = [4_000_000_000.0]

    def back() -> float:
        clock[0] -= 3600
        return clock[0]

    monkeypatch.setattr(time, "time", back)
    status, _, err = command("clock")
    assert status == 0, err
    assert_same_end(place, "clock")


# Files that something else has broken


@pytest.mark.parametrize("how", ["empty", "half", "the end", "a bit", "gone"])
@pytest.mark.parametrize(
    "name",
    ["outcomes.parquet", "manifest.json", "scorecard.json", "report.csv", "report.html",
     "adversarial/pgd.npz"],
)  # fmt: skip
def test_a_finished_run_with_a_torn_file(command, place, tmp_path, name, how):
    """Made again, refused, or (what nobody reads again) left: never other figures."""
    shutil.copytree(place / "whole", tmp_path / "run")
    file = tmp_path / "run" / name
    content = file.read_bytes()
    bit = bytearray(content)
    bit[len(content) // 3] ^= 4
    match how:
        case "empty":
            file.write_bytes(b"")
        case "half":
            file.write_bytes(content[: len(content) // 2])
        case "the end":
            file.write_bytes(content[:-3])
        case "a bit":
            file.write_bytes(bytes(bit))
        case "gone":
            file.unlink()
    status, out, err = command(str(tmp_path / "run"))
    if status == 2:
        assert out == ""
        assert str(tmp_path / "run") in last_line(err)
        assert "emove" in last_line(err)
        return
    assert status == 0, err
    for table in ("outcomes.parquet", "scorecard.json"):
        assert (tmp_path / "run" / table).read_bytes() == (place / "whole" / table).read_bytes()
