"""What a run's folder shows: there in the end, drawn now and then, and no part of the run."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from ferd_train.monitoring import writer as pictures
from ferd_train.monitoring.writer import Pictures
from ferd_train.synthesis.image_bank import Bank
from tests.train.monitoring.charts import Chart
from tests.train.student_runs import log, outcome, tiny, train

NAMES = {"images.png", "class_weights.svg", "learning.svg"}


@pytest.fixture
def bank(tmp_path) -> Bank:
    bank = Bank.create(tmp_path / "bank", (1, 8, 8))
    bank.append(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 0]))
    return bank


def drawn(folder) -> set[str]:
    return {file.name for file in folder.iterdir()} & NAMES


def epochs_shown(folder) -> float:
    text = (folder / "class_weights.svg").read_text(encoding="utf-8")
    return Chart(text).panels[0].x_ticks[-1]


def test_they_are_drawn_every_half_minute(tmp_path, bank, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(pictures.time, "monotonic", lambda: clock[0])
    shown = Pictures(tmp_path, ["a", "b"])
    assert not drawn(tmp_path)
    logs = [log(1)]
    shown.refresh(logs, bank)
    assert drawn(tmp_path) == NAMES
    assert epochs_shown(tmp_path) == 1
    logs.append(log(2))
    clock[0] += 29
    shown.refresh(logs, bank)
    assert epochs_shown(tmp_path) == 1
    clock[0] += 1
    shown.refresh(logs, bank)
    assert epochs_shown(tmp_path) == 2
    logs.append(log(3))
    shown.finish(logs, bank)
    assert epochs_shown(tmp_path) == 3


def test_the_classes_have_their_names(tmp_path, bank):
    Pictures(tmp_path, ["Sandal", "Bag"]).finish([log(1)], bank)
    panel = Chart((tmp_path / "class_weights.svg").read_text(encoding="utf-8")).panels[0]
    assert {*panel.lines} == {"Sandal", "Bag"}


def test_a_run_leaves_pictures_of_itself(teacher_file, tmp_path):
    recipe = tiny(seed=3)
    train(recipe, teacher_file, tmp_path / "run")
    assert drawn(tmp_path / "run") == NAMES
    assert epochs_shown(tmp_path / "run") == recipe.epochs
    panel = Chart((tmp_path / "run" / "class_weights.svg").read_text(encoding="utf-8")).panels[0]
    assert {*panel.lines} == {"0", "1", "2"}
    Image.open(io.BytesIO((tmp_path / "run" / "images.png").read_bytes())).verify()


def test_the_run_is_the_same_without_them(teacher_file, tmp_path, monkeypatch):
    recipe = tiny(seed=3)
    train(recipe, teacher_file, tmp_path / "with")
    for name in ("refresh", "finish"):
        monkeypatch.setattr(Pictures, name, lambda *_: None)
    train(recipe, teacher_file, tmp_path / "without")
    assert not drawn(tmp_path / "without")
    assert outcome(tmp_path / "with") == outcome(tmp_path / "without")


def test_a_run_killed_before_the_last_drawing_draws_when_it_is_continued(
    teacher_file, tmp_path, monkeypatch, same_code
):
    recipe = tiny(seed=3)
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe, teacher_file, tmp_path / "run")
    for name in drawn(tmp_path / "run"):
        (tmp_path / "run" / name).unlink()
    train(recipe, teacher_file, tmp_path / "run")
    assert drawn(tmp_path / "run") == NAMES
    assert epochs_shown(tmp_path / "run") == recipe.epochs
