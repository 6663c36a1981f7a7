"""The ``ferd-train`` command: mistakes in one line and status 2, results on stdout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ferd_train.cli import main
from ferd_train.losses.registry import LOSSES
from ferd_train.recipes import STUDENT_RECIPES, TEACHER_RECIPES
from ferd_train.synthesis.registry import METHODS


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def tiny_run(file: Path, out: Path, **changes: object) -> list[str]:
    settings = {"dataset": f"npz:{file}", "arch": "cnn28-2", "epochs": 2, "batch_size": 16}
    words = ["teacher", "--recipe", "demo-cnn", "--out", str(out), "--device", "cpu"]
    for name, value in {**settings, "validation_per_class": 4, **changes}.items():
        words += ["--set", f"{name}={value}"]
    return words


@pytest.mark.parametrize("words", [["--help"], ["student", "--help"], ["teacher", "-h"]])
def test_help_imports_no_torch(words):
    program = (
        "import sys; from ferd_train.cli import main\n"
        f"try: main({words})\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'torchvision', 'pandas'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr
    assert "teacher" in done.stdout


@pytest.mark.parametrize("words", [["ls"], ["ls", "recipes"]])
def test_ls_lists_the_recipes(words, capsys):
    status, out, _ = call(capsys, *words)
    assert status == 0
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [row[:2] for row in rows] == [
        *(["teacher", name] for name in TEACHER_RECIPES),
        *(["student", name] for name in STUDENT_RECIPES),
    ]
    assert all(len(text) > 20 for _, _, text in rows)


@pytest.mark.parametrize(("what", "known"), [("methods", METHODS), ("losses", LOSSES)])
def test_ls_lists_methods_and_losses(what, known, capsys):
    status, out, _ = call(capsys, "ls", what)
    assert status == 0
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [name for _, name, _ in rows] == [*known]
    assert {kind for kind, _, _ in rows} == {"method" if what == "methods" else "loss"}
    assert all(len(text) > 15 and text.endswith(".") for _, _, text in rows)


def test_class_folders_are_ordered_as_chosen_or_warned_of(tmp_path, capsys):
    """One of the eleven classes has no images."""
    generator = np.random.default_rng(0)
    for k in range(1, 12):
        (tmp_path / "set" / f"c{k}").mkdir(parents=True)
        for i in range(0 if k == 5 else 3):
            pixels = generator.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / f"c{k}" / f"{i}.png")

    def train(name: str, *more: str) -> tuple[dict[str, Any], str]:
        changes = {"dataset": f"folder:{tmp_path / 'set'}", "epochs": 1, "validation_per_class": 1}
        words = tiny_run(tmp_path, tmp_path / name, **changes)
        status, _, err = call(capsys, *words, *more)
        assert status == 0, err
        return json.loads((tmp_path / name / "manifest.json").read_text()), err

    record, err = train("text")
    assert record["dataset"]["class_names"][:2] == ["c1", "c10"]
    assert "--class-order natural" in record["warnings"][0]
    assert "warning: " in err
    record, err = train("natural", "--class-order", "natural")
    assert record["dataset"]["class_names"] == [f"c{k}" for k in range(1, 12)]
    assert record["dataset"]["class_counts"][4] == 0
    assert not record["warnings"]
    assert "warning" not in err


def test_the_last_line_is_the_result_and_progress_goes_elsewhere(striped_file, tmp_path, capsys):
    status, out, err = call(capsys, *tiny_run(striped_file, tmp_path / "run"), "--seed", "3")
    assert status == 0
    assert out.splitlines() == [str(tmp_path / "run/teacher.safetensors")]
    assert Path(out.strip()).is_file()
    progress = err.splitlines()[1:]
    assert [re.match(r"epoch (\d)/2 .*PGD-10 .*, (\d+) s left", line) for line in progress]
    assert len(progress) == 2
    assert progress[-1].endswith("0 s left")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["recipe"]["seed"] == 3
    again = call(capsys, *tiny_run(striped_file, tmp_path / "run"), "--seed", "3")
    assert again[:2] == (0, out)


def test_a_recipe_file(striped_file, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(
        f'dataset = "npz:{striped_file}"\narch = "cnn28-2"\neps = 0.1\ninner_step = "0.04"\n'
        "epochs = 9\nvalidation_per_class = 4\n"
    )
    words = ["teacher", "--recipe", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "run")]
    status, out, _ = call(capsys, *words, "--set", "epochs=1", "--device", "cpu")
    assert (status, out.strip()) == (0, str(tmp_path / "run/teacher.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["teacher", "--recipe", "demo-cn", "--out", "x"], "Did you mean demo-cnn?"),
        (["teacher", "--recipe", "mine.toml", "--out", "x"], "mine.toml cannot be read"),
        (["teacher", "--recipe", "demo-cnn"], "--out"),
        (["teach"], "No such command 'teach'"),
        (["ls", "recipe"], "Did you mean recipes?"),
    ],
)
def test_mistakes_on_the_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(call(capsys, *words), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "epoch=3"], "no field 'epoch'. Did you mean epochs?"),
        (["--set", "epochs"], "--set epochs is not NAME=VALUE"),
        (["--set", "epochs=many"], "epochs is 'many'; give a whole number"),
        (["--set", "epochs="], "epochs is ''; give a whole number"),
        (["--set", "inner-steps=0"], "inner_steps is 0; give 1 or more"),
        (["--set", "lr=0"], "lr is 0.0; give 0 < lr"),
        (["--set", "lr=-1"], "lr is -1.0; give 0 < lr"),
        (["--set", "eps=8"], "write 8/255"),
        (["--seed", "one"], "--seed"),
        (["--device", "abacus"], "--device abacus is no device"),
        (["--set", "dataset=fashion-mnist", "--data-dir", "nowhere"], "fashion-mnist"),
        (["--set", "dataset=npz:none.npz"], "none.npz does not exist"),
        (["--set", "dataset=demo"], "demo has no train split"),
        (["--set", "arch=cnn29"], "cnn29 is not a known architecture"),
        (["--set", "validation_per_class=20"], "class 0 has 20 training images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_a_run(words, message, striped_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(call(capsys, *tiny_run(striped_file, tmp_path / "run"), *words), message)
    assert not (tmp_path / "run").exists()


def test_divergence_and_a_file_in_the_folders_place(striped_file, tmp_path, capsys):
    diverging = tiny_run(striped_file, tmp_path / "run", lr=1e25)
    assert_one_line(call(capsys, *diverging), "diverged in epoch 1")
    (tmp_path / "file").write_text("mine")
    assert_one_line(call(capsys, *tiny_run(striped_file, tmp_path / "file")), "cannot create")
    assert (tmp_path / "file").read_text() == "mine"


def assert_one_line(called: tuple[int, str, str], message: str) -> None:
    status, out, err = called
    assert (status, out) == (2, "")
    *before, last = err.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert not [line for line in before if "Traceback" in line or line.startswith("error")]
