"""Held-out synthetic images in a run: kept from training, looked at, and chosen by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_train.distillation.selection import Selection
from ferd_train.distillation.trainer import HELD_OUT, StudentTraining
from ferd_train.monitoring.held_out import HeldOutFigures
from ferd_train.recipes.student import HeldOutRecipe
from ferd_train.training import seams
from tests.conftest import Killed
from tests.train.student_runs import (
    CPU,
    bank,
    figures,
    outcome,
    same_weights,
    teacher_of,
    tiny,
    train,
    weights,
)

pytestmark = pytest.mark.usefixtures("same_code")

#: Six of eight images of each of five batches are trained on; two epochs come before.
APART = {"epochs": 5, "warmup": 2, "held_out__share": 0.25}
BEST = {**APART, "held_out__keep": "best"}


@pytest.fixture(scope="module")
def best(teacher_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("best") / "run"
    train(tiny(**BEST), teacher_file, folder)
    return folder


def manifest(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())


def pixels(folder: Path) -> np.ndarray:
    return np.fromfile(folder / "images.u8", np.uint8).reshape(-1, 8, 8)


@pytest.mark.parametrize(
    ("share", "batch_size", "rows"),
    [(0, 256, 0), (0.1, 256, 26), (0.1, 128, 13), (0.1, 4, 1), (0.001, 8, 1), (0.99, 2, 1)],
)
def test_rows_of_a_batch(share, batch_size, rows):
    assert HeldOutRecipe(share=share).rows(batch_size) == rows


def test_the_last_rows_of_each_batch_are_apart_and_never_drawn(teacher_file, tmp_path, monkeypatch):
    seen = []
    learn = StudentTraining._step

    def noted(self, batch, seed):
        seen.extend((batch.x_BCHW * 255).round().to(torch.uint8).numpy())
        return learn(self, batch, seed)

    monkeypatch.setattr(StudentTraining, "_step", noted)
    # Nothing is cropped or turned, so that images can be told.
    plain = {"augmentation__crop_padding": 0, "augmentation__flip": False}
    recipe = tiny(**APART, **plain, distillation__steps=20, loss__attack_steps=1)
    train(recipe, teacher_file, tmp_path / "run")
    taught, apart = (pixels(tmp_path / "run" / name) for name in ("bank", HELD_OUT))
    assert (len(taught), len(apart)) == (5 * 6, 5 * 2)
    drawn = {image.tobytes() for image in seen}
    assert drawn == {image.tobytes() for image in taught}
    assert not drawn & {image.tobytes() for image in apart}
    assert [line["bank"] for line in figures(tmp_path / "run")] == [6, 12, 18, 24, 30]

    # The first batch, which no student has influenced, is the one that is made without.
    train(recipe.with_changes({"held_out.share": 0}), teacher_file, tmp_path / "all")
    whole = pixels(tmp_path / "all/bank")
    assert np.array_equal(whole[:8], np.concatenate([taught[:6], apart[:2]]))
    first, other = (figures(tmp_path / run)[0] for run in ("run", "all"))
    for figure in ("vulnerability", "class_counts", "seen_counts", "teacher_agrees"):
        assert first[figure] == other[figure], figure  # of the whole batch
    assert not (tmp_path / "all" / HELD_OUT).exists()
    assert not same_weights(tmp_path / "run", tmp_path / "all")


def test_without_a_share_nothing_is_looked_at(teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr("ferd_train.distillation.trainer.agreement", None)
    train(tiny(), teacher_file, tmp_path / "run")
    assert [line["held_out"] for line in figures(tmp_path / "run")] == [None] * 3


def test_looking_changes_nothing(teacher_file, tmp_path, monkeypatch):
    train(tiny(**APART), teacher_file, tmp_path / "looked")
    made_up = HeldOutFigures(1, 0.0, None, None, 0.0, None, None, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("ferd_train.distillation.trainer.agreement", lambda *_, **__: [made_up])
        train(tiny(**APART), teacher_file, tmp_path / "blind")
    assert same_weights(tmp_path / "looked", tmp_path / "blind")
    assert bank(tmp_path / "looked") == bank(tmp_path / "blind")


def test_figures_are_in_every_record(best):
    lines = figures(best)
    assert [line["held_out"] is None for line in lines] == [True, True, False, False, False]
    assert [line["held_out"]["images"] for line in lines[2:]] == [6, 8, 10]
    header, *rows = (best / "metrics.csv").read_text().splitlines()
    columns = header.split(",")
    assert "held_out" not in columns
    table = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    assert [row["held_out.pgd"] for row in table] == [
        "", "", *(str(line["held_out"]["pgd"]) for line in lines[2:])
    ]  # fmt: skip


class Scripted:
    """Figures of students as they are handed out, in place of measured ones."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.asked = list(scores), 0
        self.of_network: dict[float, float] = {}

    def __call__(self, networks, *arguments, **named) -> list[HeldOutFigures]:
        self.asked += 1
        key = [
            float(sum(p.detach().double().sum() for p in network.parameters()))
            for network in networks
        ]
        self.of_network[key[0]] = self.scores[self.asked - 1]
        return [
            HeldOutFigures(10, 0.0, None, None, self.of_network[each], None, None, 1.0)
            for each in key
        ]


@pytest.mark.parametrize(
    ("scores", "kept"), [((0.1, 0.3, 0.2), 4), ((0.3, 0.2, 0.1), 3), ((0.1, 0.1, 0.2), 5)]
)
def test_the_best_epoch_is_exported(scores, kept, teacher_file, tmp_path, monkeypatch):
    exported = {}

    def note(self):
        exported[self.epochs_done + 1] = {
            name: each.clone() for name, each in self.student.state_dict().items()
        }
        return

    monkeypatch.setattr(StudentTraining, "_validate", note)
    for keep in ("last", "best"):
        monkeypatch.setattr("ferd_train.distillation.trainer.agreement", Scripted(*scores))
        train(tiny(**APART, held_out__keep=keep), teacher_file, tmp_path / keep)
        expected = exported[5 if keep == "last" else kept]
        for name, tensor in weights(tmp_path / keep).items():
            assert torch.equal(tensor, expected[name]), name
    record = manifest(tmp_path / "best")
    assert record["result"]["epoch"] == kept
    assert record["checkpoint_selection"] == (
        f"best epoch, {kept}, by agreement with the teacher under PGD-10 on held-out synthetic "
        "images, average and lowest class in equal parts; no images of the data set used"
    )
    assert figures(tmp_path / "best")[-1]["held_out"]["best_epoch"] == kept
    assert manifest(tmp_path / "last")["checkpoint_selection"] == (
        "last epoch; no images of the data set used"
    )
    assert manifest(tmp_path / "last")["result"]["epoch"] == 5


@pytest.mark.parametrize(("patience", "epochs"), [(0, 7), (1, 4), (2, 6), (3, 7)])
def test_patience_ends_a_run(patience, epochs, teacher_file, tmp_path, monkeypatch):
    """The third epoch is the first that teaches; better come with the fifth, none after."""
    script = Scripted(0.2, 0.1, 0.3, 0.1, 0.1) if patience != 2 else Scripted(0.3, 0.1, 0.1, 0, 0)
    monkeypatch.setattr("ferd_train.distillation.trainer.agreement", script)
    recipe = tiny(**{**APART, "epochs": 7}, held_out__patience=patience)
    train(recipe, teacher_file, tmp_path / "run")
    ended = 5 if patience == 2 else epochs
    assert len(figures(tmp_path / "run")) == ended
    said = manifest(tmp_path / "run")["checkpoint_selection"]
    if ended < 7:
        assert said.startswith(f"last epoch, {ended}, of {ended} in place of 7, ended by agreement")
    # A finished run is left as it is.
    before = outcome(tmp_path / "run")
    train(recipe, teacher_file, tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_the_best_so_far_is_looked_at_on_the_same_images():
    """A student that is as good on images that became harder is the better one."""
    student = torch.nn.Linear(2, 2)
    selection = Selection(student, patience=0)
    assert selection.compared(student) == [student]

    def figure(pgd: float, lowest: float | None = None) -> HeldOutFigures:
        return HeldOutFigures(9, 1.0, None, None, pgd, lowest, None, 1.0)

    selection.choose([figure(0.9)], student, 3)
    assert selection.compared(student) == [student, selection.network]
    selection.choose([figure(0.5), figure(0.4)], student, 4)
    assert selection.epoch == 4
    selection.choose([figure(0.5), figure(0.5)], student, 5)
    assert selection.epoch == 4
    selection.choose([figure(0.6, 0.1), figure(0.5, 0.3)], student, 6)
    assert selection.epoch == 4  # the lowest class counts as much as the average
    with torch.no_grad():
        student.weight.add_(1)
    assert not torch.equal(selection.network.weight, student.weight)


@pytest.mark.parametrize("changes", [{}, {"held_out__patience": 1}], ids=["best", "patience"])
def test_stopped_at_every_seam_it_ends_the_same(changes, teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr("ferd_train.training.validation._AT_ONCE", 4)
    recipe = tiny(**BEST, **changes)
    train(recipe, teacher_file, tmp_path / "whole")
    stops = 0
    with monkeypatch.context() as patch:
        patch.setattr(seams, "is_asked", lambda: True)
        while stops < 100:
            try:
                train(recipe, teacher_file, tmp_path / "run")
            except KeyboardInterrupt:
                stops += 1
                continue
            break
    done = figures(tmp_path / "whole")
    batches = [-(-line["held_out"]["images"] // 4) for line in done if line["held_out"]]
    assert stops == 3 * len(done) + sum(3 + each for each in batches)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    kept = [(tmp_path / name / HELD_OUT / "images.u8").read_bytes() for name in ("run", "whole")]
    assert kept[0] == kept[1]
    one, other = (manifest(tmp_path / name) for name in ("run", "whole"))
    for fact in ("checkpoint_selection", "alarms"):
        assert one[fact] == other[fact]


@pytest.mark.parametrize(("nth", "before"), [(2, True), (4, True), (4, False), (5, False)])
def test_killed_around_a_state(nth, before, best, teacher_file, tmp_path):
    save, calls = StudentTraining.save, []

    def dying(self, file):
        calls.append(1)
        if before and len(calls) == nth:
            raise Killed
        save(self, file)
        if len(calls) == nth:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentTraining, "save", dying)
        with pytest.raises(Killed):
            train(tiny(**BEST), teacher_file, tmp_path / "run")
    train(tiny(**BEST), teacher_file, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(best)
    assert manifest(tmp_path / "run")["alarms"] == manifest(best)["alarms"]


def test_alarms_are_noted_once_and_recorded(best, teacher_file, tmp_path):
    """The teacher has random weights, so it sees other classes than those asked for."""
    noted = []

    class Noting:
        def note(self, text: str) -> None:
            noted.append(text)

        def __getattr__(self, name):
            return lambda *arguments: None

    train(tiny(**BEST), teacher_file, tmp_path / "run", reporter=Noting())
    recorded = manifest(tmp_path / "run")["alarms"]
    assert recorded
    assert [each for each in noted if each.startswith("warning: ")] == [
        f"warning: epoch {each['epoch']}: {each['text']}" for each in recorded
    ]
    assert recorded[0]["epoch"] == 5
    assert "sees the class asked for" in recorded[0]["text"]


def test_the_cost_is_among_the_phases(teacher_file):
    def phases(**changes):
        return StudentTraining(
            tiny(**{**APART, **changes}), teacher_of(teacher_file), CPU.device
        ).phases

    once, twice = (phases(held_out__keep=keep)["held-out batch"] for keep in ("last", "best"))
    assert (once.steps, once.begins, once.passes) == (1, 3, 11 * 500 / 8)
    assert twice.passes == 2 * once.passes
    assert "held-out batch" not in phases(held_out__share=0)
