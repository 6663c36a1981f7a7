"""No command talks to a network, nor starts a program of note, unless it is asked to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzzing.readers import small_run
from ferd_eval.results.outcomes import Outcomes

#: Runs commands under a hook; what they ask of a network is the last line of the error output.
#: Of programs, git says which version runs, ldconfig tells CUDA's packages where libraries are,
#: and uname tells Python's `platform` the machine.
HOOK = """
import sys
OWN = ("git", "ldconfig", "uname")
seen = []
def hear(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
                 "socket.bind", "urllib.Request", "http.client.connect"):
        seen.append(event)
    program = str(arguments[0]).rpartition("/")[2] if arguments else ""
    if event == "os.system" or event == "subprocess.Popen" and program not in OWN:
        seen.append(f"{event} {arguments}")
sys.addaudithook(hear)
from importlib import import_module
main = import_module(sys.argv[1]).main
try:
    main(sys.argv[2:])
except SystemExit as end:
    status = end.code or 0
print(f"heard: {seen}", file=sys.stderr)
sys.exit(status)
"""


def heard(module: str, *words: str, folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", HOOK, module, *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    return done.returncode, next(line for line in lines if line.startswith("heard")), done.stderr


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run = small_run(per_class=20)
    for name, digest in (("a", "ab"), ("b", "cd")):
        record = {**run.manifest["checkpoint"], "name": name, "sha256": digest * 32}
        Outcomes(run.table, {**run.manifest, "checkpoint": record}).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("report", "a", "--audit"),
        ("compare", "a", "b", "--out", "c"),
        ("leaderboard", "a", "b", "--out", "l"),
        ("gate", "a", "--floor", "0.01"),
        ("ls", "models"),
    ],
    ids=lambda words: words[0],
)
def test_commands_on_runs_are_silent(words: tuple[str, ...], runs: Path) -> None:
    status, said, errors = heard("ferd_eval.cli", *words, folder=runs)
    assert (status in (0, 1), said) == (True, "heard: []"), errors


def test_scoring_and_inspecting_the_demo_are_silent(tmp_path: Path) -> None:
    from ferd_eval.models.demo import demo_checkpoints

    with demo_checkpoints() as files:
        file = str(files[0])
        status, said, errors = heard("ferd_eval.cli", "inspect", file, folder=tmp_path)
        assert (status, said) == (0, "heard: []"), errors
        words = ("score", file, "--dataset", "demo", "--limit", "20", "--attacks", "clean,fgsm")
        status, said, errors = heard(
            "ferd_eval.cli", *words, "--out", "run", "--device", "cpu", folder=tmp_path
        )
        assert (status, said) == (0, "heard: []"), errors


def test_training_a_student_is_silent(tmp_path: Path) -> None:
    from ferd_train.config.recipe import to_toml
    from tests.train.student_runs import tiny, write_teacher

    write_teacher(tmp_path / "teacher.safetensors")
    (tmp_path / "tiny.toml").write_text(to_toml(tiny()), encoding="utf-8")
    words = ("student", "--teacher", "teacher.safetensors", "--recipe", "tiny.toml")
    status, said, errors = heard(
        "ferd_train.cli", *words, "--out", "run", "--device", "cpu", folder=tmp_path
    )
    assert (status, said) == (0, "heard: []"), errors


def test_a_missing_data_set_is_not_fetched(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(1))
    status, said, errors = heard(
        "ferd_eval.cli", "score", "x.npz", "--dataset", "cifar10", "--data-dir", ".",
        folder=tmp_path,
    )  # fmt: skip
    assert (status, said) == (2, "heard: []"), errors


def test_the_hook_hears(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import socket\ndef main(words):\n"
        "    try: socket.create_connection(('127.0.0.1', 9), 0.1)\n"
        "    except OSError: pass\n    raise SystemExit(0)\n"
    )
    _, said, _ = heard("loud", folder=tmp_path)
    assert "socket.connect" in said
