"""Cells of a study on two workers of Ray: the same networks and outcomes as one process gives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_train.study.parse import read_study
from ferd_train.study.status import states
from ferd_train.study.trial import Failed, TrialTask
from tests.train.processes import work, work_on_ray
from tests.train.study.study_files import EVALUATIONS, HEAD, METHODS, lay_out, study_file
from tests.train.test_student_cli import call

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ferd[cluster]'")

from ferd_train.study import process_pool, ray_pool  # noqa: E402 -- needs Ray
from ferd_train.study.ray_pool import run_on_ray  # noqa: E402

pytestmark = pytest.mark.usefixtures("same_code")


@pytest.fixture(autouse=True)
def same_processes(monkeypatch) -> None:
    monkeypatch.setattr(process_pool, "_work", work)
    monkeypatch.setattr(ray_pool, "_work", work_on_ray)


TRIALS = ["small/teacher", "small/ferd/seed-0", "small/rslad/seed-0"]
ONE_SEED = HEAD.replace("[0, 1]", "[0]")


def study(
    capsys: pytest.CaptureFixture[str], folder: Path, work: Path, *flags: str
) -> tuple[int, str, str]:
    words = ["study", str(folder / "s.toml"), "--work", str(work), "--data-dir", str(folder)]
    return call(capsys, *words, *flags)


@pytest.mark.slow
def test_two_workers_give_what_one_process_gives(tmp_path, capfd):
    folder = lay_out(tmp_path / "files")
    study_file(folder, ONE_SEED + METHODS + EVALUATIONS)
    status, _, err = study(capfd, folder, tmp_path / "alone")
    assert status == 0, err
    status, _, err = study(capfd, folder, tmp_path / "both", "--cluster", "auto")
    assert status == 0, err
    for trial in TRIALS:
        for evaluation in ("full", "few"):
            tables = [
                pd.read_parquet(tmp_path / each / trial / evaluation / "outcomes.parquet")
                for each in ("alone", "both")
            ]
            pd.testing.assert_frame_equal(*tables, check_exact=True)
        if trial != "small/teacher":
            ours, theirs = (
                load_checkpoint(tmp_path / each / trial / "run" / "student.safetensors").tensors
                for each in ("alone", "both")
            )
            assert all((ours[name] == theirs[name]).all() for name in theirs)
    status, _, err = study(capfd, folder, tmp_path / "both", "--cluster", "auto")
    assert status == 0
    assert "epoch" not in err


def test_a_disk_that_is_not_shared_is_said(tmp_path):
    folder = lay_out(tmp_path / "files")
    read = read_study(study_file(folder, HEAD + METHODS + EVALUATIONS))
    state = states(read, tmp_path / "nowhere")[1]
    task = TrialTask(state.trial, read.evaluations, state.folder, folder, "cpu")
    seen = []
    run_on_ray([task], tmp_path / "nowhere", "auto", lambda _, event: seen.append(event))
    (event,) = seen
    assert isinstance(event, Failed)
    assert "does not see" in event.reason
    assert "disk that all share" in event.reason
    assert not (tmp_path / "nowhere").exists()


def test_nothing_to_do_needs_no_cluster(tmp_path):
    run_on_ray([], tmp_path, "127.0.0.1:1", lambda *_: None)
    assert not ray.is_initialized()
