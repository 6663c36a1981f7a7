"""Really killed: ``kill -9`` at random moments, and Ctrl-C."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_eval.cli import app
from ferd_eval.runtime.command_line import run
from tests.conftest import TinyNet, tiny_data

#: Steps with which seconds of work are left after the first line: a slow test is in time.
LONG = 60


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A checkpoint, its factory and 320 images in a folder."""
    folder = tmp_path_factory.mktemp("job")
    data = tiny_data(320)
    np.savez(folder / "images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    torch.save(TinyNet().state_dict(), folder / "tiny.pt")
    (folder / "net.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[4])!r})\n"
        "from tests.conftest import TinyNet\n"
    )
    return folder


def arguments(out: str, steps: int = 20) -> list[str]:
    return [
        "score", "tiny.pt", "--model-file", "net.py:TinyNet", "--dataset", "npz:images.npz",
        "--attacks", "fgsm,pgd,targeted", "--eps", "0.06", "--batch-size", "32", "--save-adv",
        "--steps", str(steps), "--out", out,
    ]  # fmt: skip


def start(job: Path, out: str, steps: int = 20) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from ferd_eval.cli import main; main()", *arguments(out, steps)],
        cwd=job, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Whoever runs the tests in the background may ignore interrupts, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def at_work(process: subprocess.Popen[str]) -> None:
    """Wait for the first finished shard; there may be lines before."""
    assert process.stderr is not None
    while "images in" not in process.stderr.readline():
        assert process.poll() is None


def finish(job: Path, out: str, steps: int = 20) -> str:
    """Run the command to its end, in this process; the last line it prints."""
    printed, said = io.StringIO(), io.StringIO()
    with chdir(job), redirect_stdout(printed), redirect_stderr(said):
        status = run(app, arguments(out, steps), "ferd-eval")
    assert status == 0, said.getvalue()
    assert "Traceback" not in said.getvalue()
    return printed.getvalue().splitlines()[-1]


@pytest.fixture(scope="module")
def whole(job) -> Path:
    finish(job, "whole")
    return job / "whole"


@pytest.fixture(scope="module")
def long(job) -> Path:
    finish(job, "long", steps=LONG)
    return job / "long" / "outcomes.parquet"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(job, whole):
    generator = random.Random(0)
    out, kills = "killed", 0
    for _ in range(4):
        process = start(job, out)
        assert process.stderr is not None
        # From the first finished shard on, so that the moments fall into the work.
        assert process.stderr.readline()
        time.sleep(generator.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # a fast machine
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
    assert kills
    assert finish(job, out) == f"{out}/report.html"
    killed = job / out
    assert (killed / "outcomes.parquet").read_bytes() == (whole / "outcomes.parquet").read_bytes()
    for name in ("scorecard.json", "report.csv", "report_wide.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    for file in (whole / "adversarial").iterdir():
        ours, theirs = np.load(killed / "adversarial" / file.name), np.load(file)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)
    visible = {file.name for file in killed.iterdir() if not file.name.startswith(".")}
    assert visible == {file.name for file in whole.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_at_hand_and_says_how_to_go_on(job, long, number):
    out = f"interrupted-{number}"
    process = start(job, out, steps=LONG)
    at_work(process)
    process.send_signal(number)
    printed, err = process.communicate(timeout=600)
    assert process.returncode == 130
    lines = err.splitlines()
    assert lines[-1] == (
        "interrupted: finished work is kept; run the same command again to continue."
    )
    assert (
        "interrupted: the shard at hand is finished and kept first, which may take minutes; "
        "Ctrl-C again stops at once."
    ) in lines
    assert "Traceback" not in err
    assert printed == ""
    assert {file.name for file in (job / out).rglob(".*")} == set()
    finish(job, out, steps=LONG)
    assert (job / out / "outcomes.parquet").read_bytes() == long.read_bytes()


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once(job, long):
    process = start(job, "twice", steps=LONG)
    at_work(process)
    process.send_signal(signal.SIGINT)
    while "at hand" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode == 130
    finish(job, "twice", steps=LONG)
    assert (job / "twice" / "outcomes.parquet").read_bytes() == long.read_bytes()
