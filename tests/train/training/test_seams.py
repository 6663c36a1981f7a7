"""A run left or killed anywhere continues to the bit: the contract of every method and loss."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_train.adversarial_training.trainer import Training
from ferd_train.cli import main
from ferd_train.config.recipe import to_toml
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.losses import LOSSES
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis import METHODS
from ferd_train.training import seams
from tests.conftest import Killed
from tests.train.processes import Process, ferd_train
from tests.train.student_runs import STATE, figures, outcome, tiny
from tests.train.student_runs import train as train_student

pytestmark = pytest.mark.usefixtures("same_code")

#: Every method and every loss at least once, with changes that add a state.
STUDENTS = {
    "ferd": {},
    "ferd release": {"variant": "release", "loss__name": "absld", "reweighting__smoothing": 0.5},
    "ferd own": {
        "labels": "teacher",
        "synthesis__renew": False,
        "synthesis__attacked": 0.5,
        "synthesis__inverted": 0.5,
        "synthesis__spread": 0.5,
        "loss__name": "fair-ard",
        "reweighting__strategy": "clean-loss",
        "reweighting__smoothing": 0.5,
        "reweighting__cap": 2.0,
    },
    "zskt": {"synthesis__method": "zskt", "synthesis__student_steps": 2, "loss__name": "ikl"},
    "awp": {"loss__name": "absld", "distillation__awp": 0.1, "distillation__awp_from": 0.0},
    "cmi": {
        "synthesis__method": "cmi",
        "synthesis__remembered": 12,
        "synthesis__negatives": 4,
        "loss__name": "dafa",
        "epochs": 4,
    },
    "deepinv": {"synthesis__method": "deepinv", "loss__name": "fair-ard"},
    "deepinv best": {
        "synthesis__method": "deepinv",
        "synthesis__keep": "best",
        "loss__name": "igdm",
    },
    "fast": {"synthesis__method": "fast", "synthesis__renewed_at": 2, "loss__name": "rslad"},
    "fast none": {
        "synthesis__method": "fast",
        "synthesis__meta": "none",
        "loss__name": "wat",
        "synthesis__renewed_at": 2,
    },
    "dfhl": {"synthesis__method": "dfhl", "loss__name": "dfhl"},
    "data": {
        "synthesis__method": "data",
        "synthesis__dataset": "noise",
        "loss__name": "fair-ard",
        "batch_size": 7,  # passes over the 48 images end within a batch
        "distillation__steps": 5,
    },
}

#: What several of the methods have, at the size of a test.
SMALL = {"synthesis__steps": 3, "synthesis__width": 4, "synthesis__latent": 8}


@pytest.fixture(autouse=True)
def noise(monkeypatch) -> None:
    """The real images, for learning and for validation."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8)
    data = LabelledImages(
        "noise", pixels, np.arange(60) % 3, ("a", "b", "c"), np.arange(60), "memory"
    )
    monkeypatch.setattr("ferd_train.distillation.run.load_dataset", lambda *args, **named: data)
    monkeypatch.setattr("ferd_train.training.validation._AT_ONCE", 5)


def recipe_of(student: str) -> StudentRecipe:
    recipe = tiny(validation__dataset="noise", validation__per_class=4)
    for changes in (STUDENTS[student], SMALL):
        known = {
            name.replace("__", "."): value
            for name, value in changes.items()
            if changes is not SMALL or hasattr(recipe.synthesis, name.partition("__")[2])
        }
        recipe = recipe.with_changes(known)
    return recipe


@pytest.fixture(scope="module")
def whole(teacher_file, tmp_path_factory) -> Callable[[str], Path]:
    """The uninterrupted run of a student, trained once."""

    @cache
    def trained(student: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / "run"
        train_student(recipe_of(student), teacher_file, folder)
        return folder

    return trained


def test_every_method_and_loss_is_among_them():
    recipes = [recipe_of(student) for student in STUDENTS]
    assert {recipe.synthesis.method for recipe in recipes} == {*METHODS}
    assert {recipe.loss.name for recipe in recipes} == {*LOSSES}


@contextmanager
def stopping_at_each_seam() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seams, "is_asked", lambda: True)
        yield


@contextmanager
def keeping_at_each_seam() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seams, "_INTERVAL", 0.0)
        yield


@contextmanager
def dying(owner: type, name: str, nth: int, *, before: bool) -> Iterator[None]:
    """The process ends at the nth call, before it does anything or right after it has."""
    original, calls = getattr(owner, name), []

    def method(*arguments, **named):
        calls.append(1)
        if before and len(calls) == nth:
            raise Killed
        answer = original(*arguments, **named)
        if len(calls) == nth:
            raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, method)
        yield


def finished(begin) -> int:
    """Begin again and again until nobody stops it; how often it was stopped."""
    for stops in range(200):
        try:
            begin()
        except KeyboardInterrupt:
            continue
        return stops
    raise AssertionError("it never ends")


@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_stopped_at_every_step(student, whole, teacher_file, tmp_path):
    recipe, run = recipe_of(student), tmp_path / "run"
    with stopping_at_each_seam():
        stops = finished(lambda: train_student(recipe, teacher_file, run))
    epochs, learning, made = recipe.epochs, recipe.epochs - recipe.warmup, 3
    if student in ("zskt", "data"):
        made = 0
    # 12 images are validated in batches of 5 at most.
    assert stops == epochs * (made + 3) + learning * recipe.distillation.steps
    assert outcome(run) == outcome(whole(student))
    assert not (run / STATE).exists()


@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_killed_after_two_epochs_and_before_its_steps(
    student, whole, teacher_file, tmp_path
):
    recipe, run = recipe_of(student), tmp_path / "run"
    for name, nth, before in (("save", 2, False), ("_learn", 1, True)):
        with dying(StudentTraining, name, nth, before=before), pytest.raises(Killed):
            train_student(recipe, teacher_file, run)
    assert len(figures(run)) == 1  # the second epoch's are in the state alone
    train_student(recipe, teacher_file, run)
    assert outcome(run) == outcome(whole(student))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("student", ["ferd", "deepinv", "data"])
def test_a_student_killed_around_a_state_within_an_epoch(
    student, before, whole, teacher_file, tmp_path
):
    recipe, run = recipe_of(student), tmp_path / "run"
    for nth in (3, 9, 2, 5):
        with (
            keeping_at_each_seam(),
            dying(StudentTraining, "save", nth, before=before),
            pytest.raises(Killed),
        ):
            train_student(recipe, teacher_file, run)
    train_student(recipe, teacher_file, run)
    assert outcome(run) == outcome(whole(student))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "trades", "flip": True, "crop_padding": 2},
        {"precision": "bfloat16", "epochs": 2},
    ],
    ids=["pgd-at", "trades", "bfloat16"],
)
def test_a_teacher_stopped_at_every_step(changes, train, tiny, tmp_path):
    """48 images in 3 steps, 12 in 3 batches."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(whole, **changes)
    with stopping_at_each_seam():
        stops = finished(lambda: train(run, **changes))
    assert stops == changes.get("epochs", tiny.epochs) * 6
    assert network_and_figures(run) == network_and_figures(whole)


@pytest.mark.parametrize("before", [True, False])
def test_a_teacher_killed_around_a_state_within_an_epoch(before, train, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(whole)
    for nth in (2, 4, 6):
        with (
            keeping_at_each_seam(),
            dying(Training, "save", nth, before=before),
            pytest.raises(Killed),
        ):
            train(run)
    train(run)
    assert network_and_figures(run) == network_and_figures(whole)


def network_and_figures(folder: Path) -> tuple[bytes, list[dict[str, object]]]:
    return (folder / "teacher.safetensors").read_bytes(), figures(folder)


def test_seconds_of_an_epoch_are_those_of_all_who_worked_on_it(teacher_file, tmp_path, monkeypatch):
    clock = [0.0]

    def passes(*arguments, **named) -> None:
        clock[0] += 10.0
        step(*arguments, **named)

    step = torch.optim.SGD.step
    monkeypatch.setattr("ferd_train.training.trainer.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.optim.SGD, "step", passes)
    with stopping_at_each_seam():
        finished(lambda: train_student(recipe_of("ferd"), teacher_file, tmp_path / "run"))
    text = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index("seconds_learning")
    assert [float(line.split(",")[column]) for line in text[1:]] == [0.0, 30.0, 30.0]


def test_a_diverged_student_is_not_kept(whole, teacher_file, tmp_path, monkeypatch):
    """The state within the epoch stays one that can be continued."""
    step, calls = torch.optim.SGD.step, []

    def spoiling(self, *arguments):
        step(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            self.param_groups[0]["params"][0].data.fill_(torch.nan)

    recipe, run = recipe_of("ferd"), tmp_path / "run"
    with monkeypatch.context() as patch, keeping_at_each_seam():
        patch.setattr(torch.optim.SGD, "step", spoiling)
        with pytest.raises(UserError, match=r"diverged in epoch 2 \(not finite: weights\)"):
            train_student(recipe, teacher_file, run)
    assert len(calls) == 2
    train_student(recipe, teacher_file, run)
    assert outcome(run) == outcome(whole("ferd"))


def test_states_from_before_there_were_seams_are_continued(whole, teacher_file, tmp_path):
    recipe = recipe_of("cmi")
    run = tmp_path / "run"
    with dying(StudentTraining, "save", 2, before=False), pytest.raises(Killed):
        train_student(recipe, teacher_file, run)
    state = torch.load(run / STATE)
    for name in ("figures", "seconds", "seam"):
        del state[name]
    for name in ("lowest", "best"):
        del state["synthesis"][name]
    torch.save(state, run / STATE)
    train_student(recipe, teacher_file, run)
    assert outcome(run) == outcome(whole("cmi"))


def slowly(words: list[str]) -> None:
    """The command, a second after each step of the student."""
    step = torch.optim.SGD.step

    def slow(self, *arguments):
        step(self, *arguments)
        print("stepped", file=sys.stderr, flush=True)
        time.sleep(1)

    torch.optim.SGD.step = slow
    ferd_train(words)


@pytest.mark.slow
def test_a_signal_stops_a_command_at_the_next_step(teacher_file, tmp_path):
    (tmp_path / "mine.toml").write_text(to_toml(tiny()))
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = ["student", "--teacher", str(teacher_file), "--recipe", str(tmp_path / "mine.toml")]
    words += ["--device", "cpu", "--out"]
    process = Process([*words, run], slowly)
    for line in process.stderr:
        if line == "stepped\n":
            break
    os.kill(process.pid, signal.SIGTERM)
    status, _, err = process.end()
    said = err.splitlines()
    assert status == 130, said
    assert len(figures(run)) == 1
    assert said[0].startswith("interrupted: the step at hand is finished and kept first")
    assert "stopped in epoch 2/3, student step 1/3; all up to there is kept." in said
    assert said[-1].startswith("interrupted: ")
    assert said[-1].endswith("run the same command again to continue.")
    for folder in (run, whole):
        with pytest.raises(SystemExit) as exit_:
            main([*words, str(folder)])
        assert exit_.value.code == 0
    assert outcome(run) == outcome(whole)
