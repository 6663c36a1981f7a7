"""No command talks to a network, nor starts a program of note, unless it is asked to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.fuzzing.readers import small_run
from ferd_eval.results.outcomes import Outcomes

#: Runs commands under a hook, and prints each one's status and what it asked of a network.
#: Of programs, git says which version runs, ldconfig tells CUDA's packages where libraries are,
#: and uname tells Python's `platform` the machine.
HOOK = """
import json, sys
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
found = []
for module, *words in json.loads(sys.argv[1]):
    seen.clear()
    try:
        status = import_module(module).main(words) or 0
    except SystemExit as end:
        status = end.code or 0
    found.append((status, [*seen]))
print(json.dumps(found))
"""

COMMANDS = {
    "report": ("ferd_eval.cli", "report", "a", "--audit"),
    "compare": ("ferd_eval.cli", "compare", "a", "b", "--out", "c"),
    "leaderboard": ("ferd_eval.cli", "leaderboard", "a", "b", "--out", "l"),
    "gate": ("ferd_eval.cli", "gate", "a", "--floor", "0.01"),
    "ls": ("ferd_eval.cli", "ls", "models"),
    "a missing data set": (
        "ferd_eval.cli", "score", "x.npz", "--dataset", "cifar10", "--data-dir", ".",
    ),
    "inspect": ("ferd_eval.cli", "inspect", "demo.safetensors"),
    "score": (
        "ferd_eval.cli", "score", "demo.safetensors", "--dataset", "demo", "--limit", "20",
        "--attacks", "clean,fgsm", "--out", "run", "--device", "cpu",
    ),
    "student": (
        "ferd_train.cli", "student", "--teacher", "teacher.safetensors", "--recipe", "tiny.toml",
        "--out", "trained", "--device", "cpu",
    ),
    "a loud one": ("loud",),
}  # fmt: skip


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    """Status of each command, and what it asked of a network; one process runs them all."""
    from ferd_eval.models.demo import demo_checkpoints
    from ferd_train.config.recipe import to_toml
    from tests.train.student_runs import tiny, write_teacher

    folder = tmp_path_factory.mktemp("silent")
    run = small_run(per_class=20)
    for name, digest in (("a", "ab"), ("b", "cd")):
        record = {**run.manifest["checkpoint"], "name": name, "sha256": digest * 32}
        Outcomes(run.table, {**run.manifest, "checkpoint": record}).save(folder / name)
    np.savez(folder / "x.npz", x=np.zeros(1))
    with demo_checkpoints() as (file, *_):
        shutil.copy(file, folder / "demo.safetensors")
    write_teacher(folder / "teacher.safetensors")
    (folder / "tiny.toml").write_text(to_toml(tiny()), encoding="utf-8")
    (folder / "loud.py").write_text(
        "import socket\ndef main(words):\n"
        "    try: socket.create_connection(('127.0.0.1', 9), 0.1)\n"
        "    except OSError: pass\n    raise SystemExit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", HOOK, json.dumps([*COMMANDS.values()])],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(done.stderr)  # shown where a test fails
    return dict(zip(COMMANDS, map(tuple, found), strict=True))


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != "a loud one"])
def test_commands_are_silent(command: str, heard: dict[str, tuple[int, list[str]]]) -> None:
    status, seen = heard[command]
    allowed = {"gate": (0, 1), "a missing data set": (2,)}.get(command, (0,))
    assert (status in allowed, seen) == (True, []), status


def test_the_hook_hears(heard: dict[str, tuple[int, list[str]]]) -> None:
    assert "socket.connect" in heard["a loud one"][1]
