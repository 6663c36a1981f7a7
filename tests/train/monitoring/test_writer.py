"""What a run's folder shows: there in the end, drawn now and then, and no part of the run."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from ferd_eval.runtime.progress import ProgressReporter
from ferd_train.monitoring import charts
from ferd_train.monitoring import writer as pictures
from ferd_train.monitoring.writer import NO_CHARTS, Pictures
from ferd_train.synthesis.image_bank import Bank
from tests.train.student_runs import log, outcome, tiny, train

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("with_charts", "same_code")

NAMES = {"images.png", "class_weights.svg", "learning.svg"}
LAST = {1: [0.75, 0.25], 2: [0.5, 0.5], 3: [0.125, 0.875]}


@pytest.fixture
def bank(tmp_path) -> Bank:
    bank = Bank.create(tmp_path / "bank", (1, 8, 8))
    bank.append(torch.zeros(3, 1, 8, 8), *[torch.tensor([0, 1, 0])] * 2)
    return bank


def drawn(folder) -> set[str]:
    return {file.name for file in folder.iterdir()} & NAMES


def shown_weights(folder) -> set[str]:
    """Last weight and name of each class."""
    root = ElementTree.fromstring((folder / "class_weights.svg").read_bytes())
    titles = {each.text for each in root.iter() if each.tag.endswith("svg}title")}
    return {text for text in titles if "even" not in text}


def test_they_are_drawn_every_half_minute(tmp_path, bank, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(pictures.time, "monotonic", lambda: clock[0])
    shown = Pictures(tmp_path, ["Sandal", "Bag"])
    assert not drawn(tmp_path)
    logs = [log(epoch, class_weights=weights) for epoch, weights in LAST.items()]
    shown.refresh(logs[:1], bank)
    assert drawn(tmp_path) == NAMES
    assert shown_weights(tmp_path) == {"0.750 Sandal", "0.250 Bag"}
    clock[0] += 29
    shown.refresh(logs[:2], bank)
    assert shown_weights(tmp_path) == {"0.750 Sandal", "0.250 Bag"}
    clock[0] += 1
    shown.refresh(logs[:2], bank)
    assert shown_weights(tmp_path) == {"0.500 Sandal", "0.500 Bag"}
    shown.finish(logs, bank)
    assert shown_weights(tmp_path) == {"0.125 Sandal", "0.875 Bag"}


def test_the_run_is_the_same_without_them_and_with_them_killed_before_the_last(
    teacher_file, tmp_path, monkeypatch
):
    recipe = tiny(seed=3)
    train(recipe, teacher_file, tmp_path / "with")
    assert drawn(tmp_path / "with") == NAMES
    assert {text.split()[1] for text in shown_weights(tmp_path / "with")} == {"0", "1", "2"}
    Image.open(io.BytesIO((tmp_path / "with" / "images.png").read_bytes())).verify()

    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "refresh", lambda *_: None)
        patch.setattr(Pictures, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe, teacher_file, tmp_path / "killed")
        assert not drawn(tmp_path / "killed")
        patch.setattr(Pictures, "finish", lambda *_: None)
        train(recipe, teacher_file, tmp_path / "without")
    train(recipe, teacher_file, tmp_path / "killed")
    assert drawn(tmp_path / "killed") == NAMES
    for name in ("killed", "without"):
        assert outcome(tmp_path / "with") == outcome(tmp_path / name)
    for name in ("learning.svg", "class_weights.svg"):
        both = [(tmp_path / each / name).read_bytes() for each in ("with", "killed")]
        assert both[0] == both[1]


def test_without_matplotlib_one_line_says_so(teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "find_spec", lambda name: None)
    noted: list[str] = []

    class Noting(ProgressReporter):
        def note(self, text: str) -> None:
            noted.append(text)

    train(tiny(seed=3), teacher_file, tmp_path / "run", reporter=Noting())
    # A teacher of random weights raises alarms.
    assert [text for text in noted if not text.startswith("warning: epoch")] == [NO_CHARTS]
    assert "pip install 'ferd[plots]'" in NO_CHARTS
    assert drawn(tmp_path / "run") == {"images.png"}
