"""``ferd-train tune``: trials, their order, what is kept and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ferd_train.config.recipe import to_toml
from ferd_train.distillation.run import ImageSource
from ferd_train.recipes import find_student_recipe
from ferd_train.study import process_pool
from ferd_train.study.validate import one_thread
from ferd_train.tuning.space import draw, parse_space
from tests.train.processes import Process
from tests.train.processes import work as work_without_charts
from tests.train.student_runs import RESULT, same_weights, tiny, train, write_teacher
from tests.train.test_student_cli import assert_one_line, call, data_file

pytestmark = pytest.mark.usefixtures("same_code")

#: More steps than are good for it, so that some trials beat it.
BASE = tiny(
    epochs=2, warmup=1, validation__per_class=4, distillation__lr=0.003, distillation__steps=9
)
VARIED = ("distillation.lr=0.003,1e25", "distillation.steps=2..6")
SPACE = parse_space(VARIED, BASE)
#: Of the draws: the second trial diverges, the others differ.
SEED = next(
    seed
    for seed in range(10_000)
    if [[*draw(SPACE, seed, trial).values()] for trial in (1, 2, 3, 4)]
    == [["0.003", 6], ["1e25", 4], ["0.003", 3], ["0.003", 5]]
)
DIVERGED = 2


@pytest.fixture(autouse=True)
def same_processes(monkeypatch) -> None:
    monkeypatch.setattr(process_pool, "_work", work_without_charts)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A teacher, its data and a recipe."""
    folder = tmp_path_factory.mktemp("tune")
    trained = {"ferd.recipe": '{"image_size": 8, "eps": "0.1"}'}
    write_teacher(folder / "teacher.safetensors", metadata=trained)
    data_file(folder, per_class=10)
    (folder / "tiny.toml").write_text(to_toml(BASE))
    return folder


def words(files: Path, out: Path, *more: object, vary: tuple[str, ...] = VARIED) -> list[object]:
    given = [word for each in vary for word in ("--vary", each)]
    images = f"npz:{files / 'images-3-8.npz'}"
    common = ["tune", files / "tiny.toml", "--teacher", files / "teacher.safetensors"]
    options = ["--validate", images, "--seed", SEED, "--device", "cpu", "--out", out]
    return [*common, *options, *given, *more]


@pytest.fixture(scope="module")
def finished(files) -> tuple[Path, tuple[int, str, str]]:
    """Four trials, one of which diverged."""
    return files / "out", Process(words(files, files / "out", "--trials", 4)).end()


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "out"))


def record(out: Path) -> dict[str, Any]:
    content = json.loads((out / "tune.json").read_text(encoding="utf-8"))
    for trial in content["trials"]:
        del trial["seconds"]
    return content


def students(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob(RESULT)}


def snapshot(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_trials_are_ranked_and_one_that_diverges_comes_last(finished):
    out, (status, printed, err) = finished
    assert status == 0, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith(f"failed: trial {DIVERGED}: the student diverged in epoch 2")
    assert max(map(len, printed.splitlines())) <= 80 + len(str(out))
    assert printed.splitlines()[-2:] == [str(out / "tune.json"), str(out / "best.toml")]
    told = record(out)
    assert [each["status"] for each in told["trials"]] == [*["finished"] * 3, "failed"]
    # The figure, from what each run says of itself.
    by_hand = {}
    for number in (0, 1, 3):
        line = (out / f"trial-{number}/run/metrics.jsonl").read_text().splitlines()[-1]
        seen = json.loads(line)["validation"]
        by_hand[number] = 0.5 * seen["pgd"] + 0.5 * seen["pgd_worst_class"]
    order = sorted(by_hand, key=lambda number: (-by_hand[number], number))
    assert [each["trial"] for each in told["trials"]] == [*order, DIVERGED]
    assert told["winner"] == order[0] != 0
    assert {each["trial"]: each["figure"] for each in told["trials"][:3]} == by_hand
    assert told["ahead_of_unchanged"] == by_hand[order[0]] - by_hand[0]
    assert told["trials"][-1]["reason"].startswith("the student diverged")
    rows = [line.split()[0] for line in printed.splitlines()[2:] if line[:5].strip().isdigit()]
    assert rows == [str(number) for number in [*order, DIVERGED]]


@pytest.mark.slow
def test_a_trial_is_the_run_of_its_recipe(finished, files, tmp_path):
    out = finished[0]
    drawn = draw(SPACE, SEED, 1)
    images = {"validation.dataset": f"npz:{files / 'images-3-8.npz'}"}
    runs = {}
    for name, changes in {"0": {}, "1": drawn}.items():
        with one_thread():
            recipe = BASE.with_changes({**images, **changes})
            runs[name] = train(recipe, files / "teacher.safetensors", tmp_path / name)
        assert (out / f"trial-{name}/run" / RESULT).read_bytes() == runs[name].read_bytes()
    assert not same_weights(tmp_path / "0", tmp_path / "1")


@pytest.mark.slow
def test_the_best_recipe_needs_no_data(finished, files, tmp_path):
    out = finished[0]
    told, best = record(out), find_student_recipe(str(out / "best.toml"))
    assert best != BASE
    assert best == BASE.with_changes(draw(SPACE, SEED, told["winner"]))
    with one_thread():
        train(best, files / "teacher.safetensors", tmp_path / "best")
    assert same_weights(tmp_path / "best", out / f"trial-{told['winner']}/run")


@pytest.mark.slow
def test_more_trials_only_add_some(files, finished, copied, capsys):
    before, old = snapshot(copied), record(copied)
    status, printed, err = call(capsys, *words(files, copied, "--trials", 5, "--json"))
    assert status == 0, err
    after, told = snapshot(copied), record(copied)
    done = [f"trial-{number}" for number in (0, 1, 3)]
    changed = {file.relative_to(copied).parts[0] for file in before if before[file] != after[file]}
    assert not changed & {*done}
    assert {*students(copied)} == {f"{name}/run/{RESULT}" for name in [*done, "trial-4"]}
    new = {each["trial"]: each for each in told["trials"]}
    assert new.pop(4)["values"]["distillation.steps"] == 5
    assert new == {each["trial"]: each for each in old["trials"]}
    shown = json.loads(printed)
    assert shown["winner"] == told["winner"]
    assert err.splitlines()[-2:] == [str(copied / "tune.json"), str(copied / "best.toml")]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(files, finished, tmp_path, capsys):
    generator, out = random.Random(5), tmp_path / "out"
    for _ in range(2):
        command = Process(words(files, out, "--trials", 4))
        while not [*out.glob("trial-*/log.txt")]:
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 1.5))
        command.kill()
        assert command.end()[0] == -signal.SIGKILL
    status, _, err = call(capsys, *words(files, out, "--trials", 4, "--jobs", 2))
    assert status == 0, err
    assert students(out) == students(finished[0])
    assert record(out) == record(finished[0])
    assert (out / "best.toml").read_bytes() == (finished[0] / "best.toml").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", SEED + 1], "asked for is"),
        (["--vary", "distillation.momentum=0..0.5"], "distillation.momentum is 0.9, asked for is"),
        (["--set", "synthesis.steps=2"], "synthesis.steps is 3, asked for is 2"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_another_search_in_the_folder_is_refused(more, message, files, copied, capsys):
    before = snapshot(copied)
    called = call(capsys, *words(files, copied, "--trials", 4), *more)
    assert_one_line(called, "a run with another recipe", message, "another folder with --out")
    assert snapshot(copied) == before


@pytest.mark.slow
def test_none_that_finishes_is_no_success(files, tmp_path, capsys):
    more = ["--set", "distillation.lr=1e25", "--trials", 2]
    called = call(capsys, *words(files, tmp_path / "out", *more, vary=VARIED[1:]))
    status, printed, err = called
    assert (status, err.count("failed: trial")) == (1, 2)
    assert "No trial is finished" in printed
    assert not (tmp_path / "out/best.toml").exists()


def test_a_dry_run_draws_and_writes_nothing(files, tmp_path, capsys, monkeypatch):
    splits = []
    load = ImageSource.load

    def watched(self, name, split):
        splits.append(split)
        return load(self, name, split)

    monkeypatch.setattr(ImageSource, "load", watched)
    vary = ("loss.gamma=0,0.5", "distillation.steps=2,9")
    more = ["--trials", 12, "--dry-run"]
    status, printed, err = call(capsys, *words(files, tmp_path / "out", *more, vary=vary))
    assert (status, err) == (0, "")
    assert splits == ["train"]  # never a test image
    lines = printed.splitlines()
    assert lines[0] == "trial 0: gamma 0.5, steps 9 (unchanged): to be trained"
    runs = [line for line in lines if line.endswith("to be trained")]
    assert len(runs) == 4  # there are no more recipes, so the other trials repeat them
    assert len([line for line in lines if "draws the same as trial" in line]) == 8
    assert lines[-1].startswith("Nothing was written")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trials", "1"], "--trials is 1; give 2 or more"),
        (["--jobs", "0"], "--jobs is 0; give 1 or more"),
        (["--by", "test"], "no --by is called 'test'"),
        (["--vary", "loss.gama=0..1"], "no field 'loss.gama'. Did you mean loss.gamma?"),
        (["--vary", "loss.divergence=kl,lk"], "loss: no divergence is called 'lk'"),
        (["--vary", "distillation.momentum=0.95..9"], "momentum is"),
        (["--set", "epoch=3"], "no field 'epoch'"),
        (["--set", "image_size=12"], "give --set image_size=8"),
        (["--validate", "npz:none.npz"], "none.npz does not exist"),
        (["--set", "validation.per_class=10"], "class 0 has 10 training images"),
        (["--device", "abacus"], "--device abacus is no device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_found_before_anything_runs(more, message, files, tmp_path, capsys):
    called = call(capsys, *words(files, tmp_path / "out", "--trials", 8), *more)
    assert_one_line(called, message)
    assert not (tmp_path / "out").exists()


def test_no_images_to_judge_by(files, tmp_path, capsys):
    given = words(files, tmp_path / "out")
    at = given.index("--validate")
    assert_one_line(call(capsys, *given[:at], *given[at + 2 :]), "--validate fashion-mnist")


def test_a_wrong_value_names_its_trial(files, tmp_path, capsys):
    called = call(capsys, *words(files, tmp_path / "out", "--vary", "epochs=1..2"))
    assert_one_line(called, "trial ", "(lr ", "epochs 1): warmup is 1 of 1 epochs")


def test_torchrun_is_refused(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("os._exit", lambda status: None)
    assert_one_line(call(capsys, *words(files, tmp_path / "out")), "start it without torchrun")
