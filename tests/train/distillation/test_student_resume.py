"""A student's killed run continues to the bit; a folder of anything else is refused."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ferd_eval.errors import UserError
from ferd_eval.io import lock as folder_lock
from ferd_eval.io.lock import sole_user
from ferd_eval.models import Normalization
from ferd_eval.runtime.signals import stopping_after
from ferd_train.cli import main
from ferd_train.config.recipe import to_toml
from ferd_train.distillation.run import train_student
from ferd_train.distillation.teacher import load_teacher
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.synthesis.components.generator_losses import GeneratorObjective
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.run_folder import RunFolder
from tests.conftest import Killed
from tests.train.processes import Process
from tests.train.student_runs import (
    CPU,
    RESULT,
    STATE,
    figures,
    outcome,
    tiny,
    train,
    write_teacher,
)

# Three epochs of three generator steps; the second and third have three student steps.
RECIPE = tiny(seed=5)

pytestmark = pytest.mark.usefixtures("same_code")


@contextmanager
def dying(owner: type, name: str, nth: int, *, before: bool = True) -> Iterator[None]:
    """The process ends at the nth call, before it does anything or right after it has."""
    original = getattr(owner, name)
    calls = []

    def method(*arguments, **named):
        calls.append(1)
        if before and len(calls) == nth:
            raise Killed
        answer = original(*arguments, **named)
        if len(calls) == nth:
            raise Killed
        return answer

    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, original)
    assert len(calls) >= nth, "it never came to that"


@pytest.fixture(scope="module")
def uninterrupted(teacher_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(RECIPE, teacher_file, folder)
    return folder


@pytest.fixture(scope="module")
def half_done(teacher_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "run"
    with pytest.raises(Killed), dying(StudentTraining, "save", 3):
        train(RECIPE, teacher_file, folder)
    return folder


@pytest.fixture
def unfinished(half_done, tmp_path) -> Path:
    """Two epochs in the state, three in the bank."""
    return shutil.copytree(half_done, tmp_path / "run")


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_after_an_epoch(epoch, teacher_file, tmp_path, uninterrupted):
    def watch(log, epochs):
        if log.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        train(RECIPE, teacher_file, tmp_path / "run", watch=watch)
    assert not (tmp_path / "run" / RESULT).exists()
    seen = []
    train(RECIPE, teacher_file, tmp_path / "run", watch=lambda log, epochs: seen.append(log.epoch))
    assert seen == list(range(epoch + 1, 4))
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    assert not (tmp_path / "run" / STATE).exists()


@pytest.mark.parametrize(("call", "done"), [(2, 0), (6, 1)])
def test_an_interrupted_step_is_finished_first(call, done, teacher_file, tmp_path, uninterrupted):
    """The signal comes while images are made; the first call validates."""
    original, calls, seen = GeneratorObjective.__call__, [], []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GeneratorObjective, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt), stopping_after("step"):
            train(
                RECIPE, teacher_file, tmp_path / "run",
                watch=lambda log, epochs: seen.append(log.epoch),
            )  # fmt: skip
    assert seen == list(range(1, done + 1))
    assert len(calls) == call  # none after the one that was interrupted
    train(RECIPE, teacher_file, tmp_path / "run", watch=lambda log, epochs: seen.append(log.epoch))
    assert seen == [1, 2, 3]
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_two_at_once_are_told_apart(teacher_file, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE", 0.0)
    with sole_user(tmp_path / "run"), pytest.raises(UserError, match="run is in use by process"):
        train(RECIPE, teacher_file, tmp_path / "run")


POINTS = {
    "before the first image": (GeneratorObjective, "__call__", 1, True),
    "in the first synthesis": (GeneratorObjective, "__call__", 3, True),
    "in a later synthesis": (GeneratorObjective, "__call__", 8, True),
    "in the bank's first append": (Bank, "_commit", 2, True),
    "in a later append": (Bank, "_commit", 4, True),
    "after a bank append": (Bank, "append", 3, False),
    "in the student's steps": (torch.optim.SGD, "step", 2, True),
    "after a student step": (torch.optim.SGD, "step", 6, False),
    "before the first state": (StudentTraining, "save", 1, True),
    "between bank and state": (StudentTraining, "save", 2, True),
    "between the last bank and state": (StudentTraining, "save", 3, True),
    "between state and metrics": (RunFolder, "write_figures", 2, True),
    "between the last state and metrics": (RunFolder, "write_figures", 3, True),
    "before the network": (StudentTraining, "export", 1, True),
    "between network and record": (RunFolder, "finish", 1, True),
    "between record and bank": (StudentTraining, "begin", 1, True),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere(point, teacher_file, tmp_path, uninterrupted):
    owner, name, nth, before = POINTS[point]
    with pytest.raises(Killed), dying(owner, name, nth, before=before):
        train(RECIPE, teacher_file, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.csv").exists()
    train(RECIPE, teacher_file, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    csv = [(folder / "metrics.csv").read_text() for folder in (tmp_path / "run", uninterrupted)]
    ours, theirs = (each.splitlines() for each in csv)
    assert ours[0] == theirs[0]
    assert len(ours) == len(theirs) == 4


@pytest.mark.parametrize("variant", ["paper", "release"])
def test_killed_again_and_again(variant, teacher_file, tmp_path):
    """Smoothing and momentum are carried over, too."""
    recipe = tiny(variant=variant, reweighting__smoothing=0.5, epochs=4)
    for nth in (4, 2, 3):
        with pytest.raises(Killed), dying(torch.optim.SGD, "step", nth):
            train(recipe, teacher_file, tmp_path / "run")
    with pytest.raises(Killed), dying(StudentTraining, "save", 2):
        train(recipe, teacher_file, tmp_path / "run")
    train(recipe, teacher_file, tmp_path / "run")
    train(recipe, teacher_file, tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_kill_9_at_random_times(teacher_file, tmp_path):
    recipe = tiny(epochs=12, warmup=1)
    (tmp_path / "mine.toml").write_text(to_toml(recipe))
    words = ["student", "--teacher", str(teacher_file), "--recipe", str(tmp_path / "mine.toml")]
    words += ["--device", "cpu", "--out"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    for until in (2, 5):
        delay = random.uniform(0, 0.2)
        process, errors = Process([*words, run]), []
        for line in process.stderr:
            errors.append(line)
            if line.startswith("epoch ") and int(line.split()[1].split("/")[0]) >= until:
                break
        time.sleep(delay)
        process.kill()
        assert process.end()[0] == -signal.SIGKILL, "".join(errors)
        assert json.loads((run / "manifest.json").read_text())["status"] == "running"
        assert until <= len(figures(run)) < recipe.epochs, f"killed {delay} s after {errors[-1]}"
    for folder in (run, whole):
        with pytest.raises(SystemExit) as exit_:
            main([*words, str(folder)])
        assert exit_.value.code == 0
    assert outcome(run) == outcome(whole)


def test_a_finished_run_stays_as_it_is(teacher_file, tmp_path):
    folder = tmp_path / "run"
    train(RECIPE, teacher_file, folder)

    def snapshot() -> dict[str, tuple[bytes, int]]:
        return {
            str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
            for file in folder.rglob("*")
            if file.is_file()
        }

    before = snapshot()
    own = {"manifest.json", "metrics.csv", "metrics.jsonl", "recipe.toml", RESULT}
    assert own | {"bank/bank.json", "bank/images.u8", "bank/labels.i64"} <= {*before}
    assert STATE not in before
    edit_manifest(folder, packages__torch="1.0", device__name="abacus")  # nothing is left to do
    before = snapshot()
    time.sleep(0.01)

    def never(log, epochs):
        raise AssertionError

    assert train(RECIPE, teacher_file, folder, watch=never) == folder / RESULT
    assert snapshot() == before


def edit_manifest(folder: Path, **changes: object) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for path, value in changes.items():
        *parents, key = path.split("__")
        part = manifest
        for parent in parents:
            part = part[parent]
        part[key] = value
    manifest.pop("seal")  # as whoever edits one is told to
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "asked", "before", "after"),
    [
        ("epochs", 4, "3", "4"),
        ("seed", 6, "5", "6"),
        ("eps", "8/255", "0.1", "8/255"),
        ("variant", "paper", "ferd", "paper"),
        ("ablation", "no-fae", "none", "no-fae"),
        ("synthesis.bottleneck.beta", 0.5, "0.3", "0.5"),
        ("distillation.lr", 0.2, "0.1", "0.2"),
    ],
)
def test_another_recipe_is_refused(
    name, asked, before, after, teacher_file, unfinished, uninterrupted
):
    for folder in (unfinished, uninterrupted):
        with pytest.raises(UserError, match=rf"{name} is {before}, asked for is {after}\. .*--out"):
            train(RECIPE.with_changes({name: asked}), teacher_file, folder)


def test_another_teacher_is_refused(unfinished, uninterrupted, tmp_path):
    other = write_teacher(tmp_path / "other.safetensors", seed=1)
    for folder in (unfinished, uninterrupted):
        with pytest.raises(UserError, match=r"of another teacher \(sha256 \w{12}, now \w{12}\)"):
            train(RECIPE, other, folder)


def test_a_teacher_that_is_read_otherwise_is_refused(teacher_file, unfinished, uninterrupted):
    """The same file with another normalisation is another network."""
    teacher = load_teacher(teacher_file, 8, normalize="0.5/0.25")
    for folder in (unfinished, uninterrupted):
        with pytest.raises(UserError, match=r"teacher.normalization is None, asked for is .*0\.25"):
            train_student(RECIPE, teacher, folder, device=CPU)


def test_a_normalised_teacher_is_the_same_when_it_comes_again(tmp_path):
    """The record of a normalisation comes back from the disk as it went."""
    file = write_teacher(tmp_path / "t.safetensors", normalization=Normalization((0.5,), (0.25,)))
    with pytest.raises(Killed), dying(StudentTraining, "save", 2):
        train(RECIPE, file, tmp_path / "run")
    train(RECIPE, file, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("packages__torch", "packages.torch"),
        ("packages__numpy", "packages.numpy"),
        ("device__threads", "device.threads"),
        ("ferd_eval", "ferd_eval"),
    ],
)
def test_another_environment_is_refused(field, path, teacher_file, unfinished):
    edit_manifest(unfinished, **{field: "64"})
    with pytest.raises(UserError, match=rf"unfinished run .*{path} was 64 and is .* now"):
        train(RECIPE, teacher_file, unfinished)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"no zip"],
    ids=["half", "empty", "text"],
)
def test_a_torn_state_is_said_in_one_line_and_may_be_deleted(
    damage, teacher_file, unfinished, uninterrupted
):
    state = unfinished / STATE
    state.write_bytes(damage(state.read_bytes()))
    torn = state.read_bytes()
    with pytest.raises(UserError, match=r"state.pt \(\d+ bytes\) is damaged.*Delete it") as caught:
        train(RECIPE, teacher_file, unfinished)
    assert "\n" not in str(caught.value)
    assert state.read_bytes() == torn
    state.unlink()
    train(RECIPE, teacher_file, unfinished)
    assert outcome(unfinished) == outcome(uninterrupted)


def test_a_state_of_another_network_is_refused(teacher_file, unfinished):
    torch.save({"student": {}, "optimizer": {}, "logs": []}, unfinished / STATE)
    with pytest.raises(UserError, match="damaged"):
        train(RECIPE, teacher_file, unfinished)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("images.u8", Path.unlink),
        ("images.u8", lambda file: file.write_bytes(file.read_bytes()[:600])),
        ("labels.i64", lambda file: file.write_bytes(b"")),
        ("bank.json", Path.unlink),
        ("bank.json", lambda file: file.write_text("{")),
        ("bank.json", lambda file: file.write_text('{"image_shape": [1, 8, 8], "count": 8}')),
    ],
)
def test_a_torn_bank_is_said_in_one_line(file, damage, teacher_file, unfinished):
    damage(unfinished / "bank" / file)
    state = (unfinished / STATE).read_bytes()
    with pytest.raises(UserError, match=r"synthetic images in .*bank cannot be read") as caught:
        train(RECIPE, teacher_file, unfinished)
    assert "\n" not in str(caught.value)
    assert (unfinished / STATE).read_bytes() == state


@pytest.mark.parametrize("name", [RESULT, STATE])
def test_a_network_without_its_record_is_not_overwritten(name, teacher_file, tmp_path):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(UserError, match=rf"{name} but no manifest.json"):
        train(RECIPE, teacher_file, tmp_path)
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_teachers_run_is_not_continued_as_a_students(train, teacher_file, tmp_path):
    """`train` is the teacher's here."""
    train(tmp_path / "run", epochs=1)
    with pytest.raises(UserError, match="a recipe of another kind"):
        train_student(RECIPE, load_teacher(teacher_file, 8), tmp_path / "run", device=CPU)


def test_divergence_keeps_the_state_before(teacher_file, unfinished, uninterrupted, monkeypatch):
    """Weights that are spoilt by the very last step count as well."""
    state = (unfinished / STATE).read_bytes()
    step, calls = torch.optim.SGD.step, []

    def spoiling(self, *arguments):
        answer = step(self, *arguments)
        calls.append(1)
        if len(calls) == 3:
            self.param_groups[0]["params"][0].data.fill_(torch.nan)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spoiling)
        with pytest.raises(UserError, match=r"diverged in epoch 3 \(not finite: weights") as caught:
            train(RECIPE, teacher_file, unfinished)
    assert "lr 0.1 is too high" in str(caught.value)
    assert "--set distillation.lr=0.01. The state kept last is from before" in str(caught.value)
    assert (unfinished / STATE).read_bytes() == state
    assert [line["epoch"] for line in figures(unfinished)] == [1, 2]
    assert not (unfinished / RESULT).exists()
    train(RECIPE, teacher_file, unfinished)
    assert outcome(unfinished) == outcome(uninterrupted)


@pytest.mark.parametrize("lr", [1e2, 1e4, 1e10, 1e29])
def test_a_huge_learning_rate_is_named_as_the_cause(lr, teacher_file, tmp_path):
    """Also where the student's numbers are finite still, and the generator's are not."""
    recipe = tiny(variant="paper", distillation__lr=lr, distillation__steps=6, epochs=6)
    with pytest.raises(UserError, match=r"diverged.* --set distillation\.lr=") as caught:
        train(recipe, teacher_file, tmp_path / "run")
    assert "\n" not in str(caught.value)
    done = len(figures(tmp_path / "run"))
    with pytest.raises(UserError) as again:  # the state is one that a run continues from
        train(recipe, teacher_file, tmp_path / "run")
    assert str(again.value) == str(caught.value)
    assert len(figures(tmp_path / "run")) == done >= 1


def test_images_that_are_not_finite_cannot_be_measured(teacher_file, tmp_path):
    """The release measures the last iterate, which a spoilt generator makes of NaN."""
    recipe = tiny(variant="release", synthesis__lr=1e29, synthesis__steps=6)
    with pytest.raises(
        UserError, match=r"not finite, so no class can be weighed; lower synthesis\.lr"
    ):
        train(recipe, teacher_file, tmp_path / "run")
