"""Folders that our commands fill are input of our commands, whatever lies beside the runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import ferd_eval.cli
import ferd_train.cli
from ferd_train.config.recipe import to_toml
from tests.conftest import tiny_data
from tests.train.student_runs import tiny, write_teacher


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """``A`` and ``B``: three seeds of two methods, scored beside their teacher; ``bare``: unscored;
    ``both``: two checkpoints; ``one``: one.
    """
    folder = tmp_path_factory.mktemp("made")
    data = tiny_data(24, 3)
    np.savez(folder / "d.npz", images=data.images_NCHW, labels=np.tile(np.arange(3), 8))
    write_teacher(folder / "teacher.safetensors")
    recipe = tiny(epochs=1, warmup=0, synthesis__steps=1, distillation__steps=1)
    (folder / "mine.toml").write_text(to_toml(recipe))
    before = Path.cwd()
    os.chdir(folder)
    try:
        student = ["student", "--recipe", "mine.toml", "--teacher", "teacher.safetensors"]
        scored = ["--score", "--dataset", "npz:d.npz", "--attacks", "clean,fgsm"]
        call(ferd_train.cli.app, *student, "--out", "A", "--seeds", "0,1,2", *scored)
        more = ["--set", "loss.gamma=0.25", "--seeds", "0,1,2"]
        call(ferd_train.cli.app, *student, "--out", "B", *more, *scored)
        call(ferd_train.cli.app, *student, "--out", "bare")
        files = [f"A/seed-{seed}/student.safetensors" for seed in (0, 1)]
        score = ["--dataset", "npz:d.npz", "--attacks", "clean,fgsm"]
        call(ferd_eval.cli.app, "score", *files, *score, "--out", "both")
        call(ferd_eval.cli.app, "score", files[0], *score, "--out", "one")
    finally:
        os.chdir(before)
    return folder


def call(app, *words: str) -> int:
    return ferd_eval.cli.run(app, words, "program")


@pytest.fixture
def command(made, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(made)
    capsys.readouterr()

    def run(*words: str) -> tuple[int, str, str]:
        status = call(ferd_eval.cli.app, *words)
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "sides",
    [("A", "B"), ("A/report", "B/report/"), ("./A/", "B/report/report.html"), ("A/.", "../made/B")],
)
def test_the_students_are_compared_and_the_teacher_is_named(command, made, sides, tmp_path):
    sides = [side.replace("made", made.name) for side in sides]
    status, out, err = command("compare", *sides, "--json", "--out", str(tmp_path / "c"))
    assert status == 0, err
    assert err.count("is what the students beside it were distilled from") == 2
    said = (tmp_path / "c" / "compare.json").read_text("utf-8")
    assert json.loads(out) == json.loads(said)
    assert "report/seed-2-student" in said
    assert "report/teacher" not in said


def test_a_folder_is_seen_from_inside_too(command, monkeypatch, tmp_path):
    monkeypatch.chdir("A")
    status, _, err = command("compare", ".", "../B", "--out", str(tmp_path))
    assert status == 0, err


@pytest.mark.parametrize("more", [[], ["--group-seeds"]])
def test_the_teacher_has_one_row(command, tmp_path, more):
    status, out, err = command("leaderboard", "A", "B/report", *more, "--out", str(tmp_path))
    assert status == 0, err
    assert err.count("left out") == 1
    assert "B/report/teacher is of the same network as A/report/teacher" in err
    assert any(line.startswith("teacher ") for line in out.splitlines())
    assert "report/teacher" not in out


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("A", [f"report/seed-{seed}-student" for seed in range(3)]),
        ("A/report/", [f"seed-{seed}-student" for seed in range(3)]),
        ("both", ["seed-0-student", "seed-1-student"]),
    ],
)
def test_each_run_of_a_folder_passes_the_gate_or_not(command, folder, names):
    status, out, _ = command("gate", folder, "--floor", "0.999")
    assert status == 1
    assert [line.partition(": fail: ")[0] for line in out.splitlines()] == names
    status, out, _ = command("gate", folder, "--floor", "0.999", "--json")
    said = json.loads(out)
    assert (status, said["pass"], [*said["runs"]]) == (1, False, names)


def test_one_run_has_one_line_as_ever(command):
    status, out, _ = command("gate", "one", "--floor", "0.999")
    assert (status, out.count("\n")) == (1, 1)
    assert out.startswith("fail: ")


@pytest.mark.parametrize("folder", ["A", "A/report"])
def test_the_report_over_all_is_made_again_where_it_was(command, folder):
    before = Path("A/report/report.html").read_bytes()
    Path("A/report/report.html").unlink()
    status, out, err = command("report", folder)
    assert status == 0, err
    assert out.splitlines()[-1] == "A/report/report.html"
    assert Path("A/report/report.html").read_bytes() == before
    assert not Path("A/report.html").exists()


def test_a_folder_of_students_can_be_published(command, made, tmp_path):
    shutil.copytree(made / "A", tmp_path / "reports")
    status, _, err = command("publish", str(tmp_path / "reports"))
    assert (status, err) == (0, "")
    status, _, err = command("publish", "one")
    assert status == 2
    assert "one is a run itself" in err


@pytest.mark.parametrize("words", ["compare bare A", "leaderboard bare", "report bare"])
def test_what_is_not_scored_says_what_to_type(command, words):
    status, _, err = command(*words.split())
    assert status == 2
    assert "ferd-eval score bare/student.safetensors" in err


def test_several_methods_are_named_as_they_can_be_typed(command):
    status, _, err = command("compare", ".", "A")
    assert status == 2
    assert err.count("Name ") == 1
    assert "seed-0-student" in err
