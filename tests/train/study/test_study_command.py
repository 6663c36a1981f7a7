"""``ferd-train study``: what is done, continued, refused, and reported when it fails."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from ferd_eval.io.lock import sole_user
from ferd_train.study import process_pool
from ferd_train.study import trial as trial_module
from ferd_train.study.parse import read_study
from ferd_train.study.process_pool import run_in_processes
from ferd_train.study.status import states
from ferd_train.study.trial import Done, Failed, Stage, TrialTask, run_trial
from tests.train.processes import Process
from tests.train.processes import work as work_without_charts
from tests.train.student_runs import RESULT, write_teacher
from tests.train.study.study_files import EVALUATIONS, HEAD, METHODS, lay_out, study_file
from tests.train.test_student_cli import assert_one_line, call

BAD = '[methods.bad]\nrecipe = "tiny.toml"\nset = { "distillation.lr" = 1e25 }\n'
SKIP = 'skip = [{ methods = ["bad"], seeds = [1] }]\n'
TEXT = SKIP + HEAD + METHODS + BAD + EVALUATIONS
pytestmark = pytest.mark.usefixtures("same_code")

GOOD = [f"small/{name}/seed-{seed}" for name in ("ferd", "rslad") for seed in (0, 1)]
EVERY = ["small/teacher", *GOOD]


@pytest.fixture(autouse=True)
def same_processes(monkeypatch) -> None:
    monkeypatch.setattr(process_pool, "_work", work_without_charts)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    folder = lay_out(tmp_path_factory.mktemp("study") / "files")
    study_file(folder, TEXT)
    return folder


@pytest.fixture(scope="module")
def finished(laid_out) -> tuple[Path, tuple[int, str, str]]:
    """All that can be done is done, and one student failed."""
    return laid_out / "work", Process(words(laid_out, laid_out / "work")).end()


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "work"))


def words(folder: Path, work: Path, *more: str) -> list[str]:
    file = str(folder / "s.toml")
    return ["study", file, "--work", str(work), "--data-dir", str(folder), "--device", "cpu", *more]


def outcome(work: Path) -> dict[str, bytes]:
    """Students and outcomes of all cells."""
    files = [*work.rglob(f"run/{RESULT}"), *work.rglob("outcomes.parquet")]
    return {str(file.relative_to(work)): file.read_bytes() for file in files}


def without(files: dict[str, bytes], part: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if part not in name}


def table(work: Path) -> list[dict[str, str]]:
    """The report's figures without wall clocks."""
    with (work / "report/study.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{key: row[key] for key in row if not key.startswith("seconds")} for row in rows]


def snapshot(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.slow
def test_a_cell_that_fails_is_reported_and_the_others_go_on(finished):
    work, (status, out, err) = finished
    assert status == 1, err
    assert "Traceback" not in err
    assert out == f"{work / 'report/study.md'}\n"
    last = err.splitlines()[-1]
    assert last.startswith("failed: small/bad/seed-0: the student diverged in epoch 2")
    page = (work / "report/study.md").read_text(encoding="utf-8")
    assert "5 of 6 networks are finished, 1 failed, 0 are missing." in page
    assert "- small/bad/seed-0: the student diverged in epoch 2" in page
    assert {*outcome(work)} == {
        *(f"{path}/run/{RESULT}" for path in GOOD),
        *(f"{path}/{name}/outcomes.parquet" for path in EVERY for name in ("full", "few")),
    }
    rows = {row["row"]: row for row in table(work)}
    assert [*rows] == ["teacher", "ferd", "rslad", "bad"]
    assert (rows["bad"]["trained"], rows["bad"]["fgsm avg"]) == ("0", "")
    assert rows["ferd"]["trained"] == "2"
    assert (work / "report/leaderboard.html").is_file()
    assert [line for line in err.splitlines() if line.startswith("[1/6]")]


@pytest.mark.slow
def test_what_is_finished_is_left_alone(laid_out, copied, capsys):
    before = snapshot(copied)
    status, out, err = call(capsys, *words(laid_out, copied, "--only", "ferd,rslad"))
    assert (status, out) == (0, f"{copied / 'report/study.md'}\n"), err
    assert err == ""
    after = snapshot(copied)
    changed = {file for file in before if before[file] != after.get(file)}
    assert all("report" in file.parts or file.parent == copied for file in changed - {copied})


@pytest.mark.slow
def test_a_dry_run_says_what_is_left_and_writes_nothing(laid_out, copied, tmp_path, capsys):
    shutil.rmtree(copied / "small/rslad/seed-1/few")
    shutil.rmtree(copied / "small/rslad/seed-0/run")
    before, of_files = snapshot(copied), snapshot(laid_out)
    status, out, err = call(capsys, *words(laid_out, copied, "--dry-run"))
    assert (status, err) == (0, "")
    lines = {line.split(": ")[0].strip(): line for line in out.splitlines()}
    assert lines["small/teacher"].endswith(": done")
    assert lines["small/rslad/seed-1"].endswith(": score few")
    assert lines["small/rslad/seed-0"].endswith(": train, score full, score few")
    assert (
        "train from epoch 2 of 3, score full, score few (failed the last time: the student "
        in (lines["small/bad/seed-0"])
    )
    assert out.splitlines()[-1].startswith("3 of 6 are done; about ")
    assert snapshot(copied) == before
    empty = words(laid_out, tmp_path / "new", "--dry-run", "--only", "ferd")
    status, out, _ = call(capsys, *empty)
    assert (status, len(out.splitlines())) == (0, 5)
    assert out.splitlines()[-1] == "0 of 3 are done; time left not known yet with --jobs 1."
    assert not (tmp_path / "new").exists()
    assert snapshot(laid_out) == of_files


@pytest.mark.slow
def test_several_at_once_end_the_same(laid_out, finished, tmp_path, capsys):
    work = tmp_path / "work"
    status, _, err = call(capsys, *words(laid_out, work, "--jobs", "2", "--only", "rslad"))
    assert status == 0, err
    assert outcome(work) == without(outcome(finished[0]), "/ferd/")


def start(folder: Path, work: Path) -> Process:
    return Process(words(folder, work, "--only", "rslad"))


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(laid_out, finished, tmp_path, capsys):
    generator, work, kills = random.Random(3), tmp_path / "work", 0
    for _ in range(3):
        command = start(laid_out, work)
        for _ in range(generator.randrange(1, 4)):  # lines of progress: work is going on
            command.stderr.readline()
        time.sleep(generator.uniform(0, 0.5))
        command.kill()
        # The pipes close when the last process of the study has gone, not only the first.
        status, _, _ = command.end()
        kills += status == -signal.SIGKILL
    assert kills == 3
    status, _, err = call(capsys, *words(laid_out, work, "--only", "rslad"))
    assert status == 0, err
    assert outcome(work) == without(outcome(finished[0]), "/ferd/")
    ours, whole = ({row["row"]: row for row in table(each)} for each in (work, finished[0]))
    assert ours == {name: whole[name] for name in ("teacher", "rslad")} | {
        name: ours[name] for name in ("ferd", "bad")
    }


@pytest.mark.slow
def test_ctrl_c_stops_all_and_says_how_to_go_on(laid_out, finished, tmp_path, capsys):
    work = tmp_path / "work"
    command = start(laid_out, work)
    command.stderr.readline()
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to every process
    status, out, err = command.end()
    assert (status, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted: finished work is kept; run the same")
    status, _, err = call(capsys, *words(laid_out, work, "--only", "rslad"))
    assert status == 0, err
    assert outcome(work) == without(outcome(finished[0]), "/ferd/")


@pytest.mark.slow
def test_methods_seeds_and_evaluations_may_be_added(laid_out, copied, tmp_path, capsys):
    folder = Path(shutil.copytree(laid_out, tmp_path / "files"))
    more = '[methods."new/one"]\nrecipe = "tiny.toml"\nset = { "loss.gamma" = 0 }\n'
    text = (HEAD + METHODS + more + EVALUATIONS).replace("[0, 1]", "[0, 1, 2]")
    text = 'skip = [{ methods = ["new/one"], seeds = [0, 1] }]\n' + text
    study_file(folder, text + '[evaluations.third]\nattacks = "clean"\n')
    before = {file: each for file, each in snapshot(copied).items() if file.is_file()}
    status, _, err = call(capsys, *words(folder, copied))
    assert status == 0, err
    after = snapshot(copied)
    for file in before:
        if "report" not in file.parts and file.name not in ("study.json", ".lock", "log.txt"):
            assert after[file] == before[file], file
    made = {*outcome(copied)}
    assert f"small/new%2Fone/seed-2/run/{RESULT}" in made
    assert "small/ferd/seed-0/third/outcomes.parquet" in made
    rows = {row["row"]: row for row in table(copied)}
    assert (rows["ferd"]["fgsm avg seeds"], rows["new/one"]["trained"]) == ("3", "1")


CONTRADICTIONS = {
    "method": (
        "loss.attack_steps = 2", "loss.attack_steps = 3",
        "methods.rslad: ", "loss.attack_steps is 2, asked for is 3", "another name",
    ),
    "evaluation": (
        "per_class = 4", "per_class = 5", "evaluations.few: per_class is 5 now and was 4 in",
    ),
    "attacks": ('"fgsm"', '"fgsm,pgd"', "evaluations.full: attacks is fgsm,pgd now and was fgsm"),
    "dataset": ("images-3-8", "others", "holds a study on npz:images-3-8.npz, now dataset is"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_what_contradicts_the_folder_is_refused(
    contradiction, laid_out, copied, tmp_path, capsys, monkeypatch
):
    before, after, *messages = CONTRADICTIONS[contradiction]
    folder = Path(shutil.copytree(laid_out, tmp_path / "files", ignore=lambda *_: ["work"]))
    monkeypatch.chdir(folder)
    shutil.copyfile(folder / "images-3-8.npz", folder / "others.npz")
    study_file(folder, TEXT.replace(before, after))
    found = snapshot(copied)
    assert_one_line(call(capsys, *words(folder, copied, "--only", "ferd,rslad")), *messages)
    assert snapshot(copied) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (["ferd", "rslad", "bad"], "of another file of the teacher small (sha256"),
        (["teacher"], "of another teacher (sha256"),
    ],
    ids=["students", "teacher"],
)
def test_another_file_of_the_teacher_is_refused(
    lost, message, laid_out, copied, tmp_path, capsys, monkeypatch
):
    folder = Path(shutil.copytree(laid_out, tmp_path / "files", ignore=lambda *_: ["work"]))
    monkeypatch.chdir(folder)
    write_teacher(folder / "teacher.safetensors", seed=1)
    for name in lost:
        shutil.rmtree(copied / "small" / name)
    assert_one_line(call(capsys, *words(folder, copied)), message, "another name")


@pytest.mark.slow
def test_a_process_that_is_ended_costs_its_cell_alone(laid_out, tmp_path, monkeypatch):
    monkeypatch.chdir(laid_out)
    study = read_study(laid_out / "s.toml")
    tasks = [
        TrialTask(state.trial, study.evaluations[:1], state.folder, laid_out, "cpu")
        for state in states(study, tmp_path)[:3]
    ]
    seen: list[tuple[str, object]] = []

    def watch(task, event):
        seen.append((str(task.trial.path), event))
        if isinstance(event, Stage) and task is tasks[1] and event.name == "run":
            for child in multiprocessing.active_children():
                child.kill()

    run_in_processes(tasks, 1, watch)
    ends = {path: event for path, event in seen if isinstance(event, Done | Failed)}
    assert [type(event) for event in ends.values()] == [Done, Failed, Done]
    assert "ended by SIGKILL; if memory ran short" in ends[str(tasks[1].trial.path)].reason
    assert not multiprocessing.active_children()


def test_a_bug_is_reported_with_its_traceback_in_the_log(laid_out, tmp_path, monkeypatch):
    def broken(*arguments, **named):
        print("what it printed")
        raise RuntimeError("boom\nin two lines")

    monkeypatch.setattr(trial_module, "train_student", broken)
    study = read_study(laid_out / "s.toml")
    state = states(study, tmp_path)[1]
    told: list[object] = []
    run_trial(TrialTask(state.trial, study.evaluations, state.folder, None, "cpu"), told.append)
    assert told[0] == Stage("run")
    assert isinstance(told[-1], Failed)
    assert told[-1].reason.startswith("RuntimeError: boom in two lines (the traceback is in ")
    log = (state.folder / "log.txt").read_text()
    assert "what it printed" in log
    assert 'raise RuntimeError("boom' in log


def test_a_failure_is_kept_until_it_is_mended(laid_out, tmp_path):
    state = states(read_study(laid_out / "s.toml"), tmp_path)[1]
    assert state.failure() is None
    state.folder.mkdir(parents=True)
    state.fail("so")
    assert state.failure() == "so"
    (state.folder / "failure.json").write_text("{")
    assert state.failure() == "it failed, and the reason cannot be read"
    state.succeed()
    assert state.failure() is None


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_one_study_at_a_time_in_a_folder(laid_out, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(laid_out)
    with sole_user(tmp_path):
        called = call(capsys, *words(laid_out, tmp_path))
        assert_one_line(called, f"{tmp_path} is in use by process {os.getpid()} on ", "--work")
    assert not [*tmp_path.iterdir()]
