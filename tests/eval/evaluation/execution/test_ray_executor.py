"""Workers in other processes, through Ray: the same outcomes, whoever is lost on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ferd_eval import UserError, score
from tests.conftest import Killed, StopAfter, TinyNet
from tests.eval.evaluation.execution.cluster_attacks import KillsItsWorker, Wrong
from tests.eval.evaluation.execution.conftest import ASKED

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ferd[cluster]'")

from ferd_eval.evaluation.execution.ray_executor import RayExecutor  # noqa: E402 -- needs Ray

pytestmark = pytest.mark.usefixtures("one_thread", "small_shards")


@pytest.fixture(scope="module")
def joined():
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def two(joined, notes):
    cluster = RayExecutor(None, ["cpu", "cpu"], note=notes.note)
    yield cluster
    cluster.end()


def deadly(folder: Path, times: int) -> KillsItsWorker:
    return KillsItsWorker(folder, 150, times)


def test_two_workers_one_of_them_killed_give_the_outcomes_of_one_process(
    data, tmp_path, two, notes
):
    net = TinyNet().eval()
    alone = score(net, data, ["pgd", "apgd-ce", deadly(tmp_path / "a", 0)], "0.06", batch_size=64)
    both = score(
        net, data, ["pgd", "apgd-ce", deadly(tmp_path / "b", 1)], "0.06", batch_size=64,
        executor=two, reporter=notes, out=tmp_path / "run",
    )  # fmt: skip
    assert not [*(tmp_path / "b").iterdir()]  # one died
    assert notes.lines == ["a worker was lost; another one takes its place"]
    pd.testing.assert_frame_equal(alone.table, both.table, check_exact=True)
    assert both.manifest["device"]["reason"].startswith("--device cpu,cpu: ")
    assert both.manifest["device"]["threads"] == 1
    kept = pd.read_parquet(tmp_path / "run" / "outcomes.parquet")
    pd.testing.assert_frame_equal(kept, both.table, check_exact=True)
    for outcomes in (alone, both):
        del outcomes.manifest["diagnosis"]["cost"]["seconds"]
    assert alone.manifest["diagnosis"] == both.manifest["diagnosis"]
    assert alone.manifest["folding"] == both.manifest["folding"]


def test_a_task_that_costs_every_worker_is_given_up(data, tmp_path, two):
    attack = deadly(tmp_path / "poison", 10)
    with pytest.raises(UserError, match=r"3 workers were lost over the same images.*are kept"):
        score(TinyNet().eval(), data, ["clean", attack], "0.06", batch_size=64, executor=two)


def test_a_run_begun_alone_is_gone_on_with_by_a_cluster_and_back(data, tmp_path, two):
    net = TinyNet().eval()
    whole = score(net, data, **ASKED, out=tmp_path / "whole", save_adv=True)
    asked = {**ASKED, "out": tmp_path / "run", "save_adv": True}
    with pytest.raises(Killed):
        score(net, data, **asked, reporter=StopAfter(7))
    with pytest.raises(Killed):
        score(net, data, **asked, reporter=StopAfter(4), executor=two)
    again = score(net, data, **asked)
    pd.testing.assert_frame_equal(whole.table, again.table, check_exact=True)
    for name in ("pgd", "apgd-ce"):
        one, other = (
            np.load(tmp_path / run / "adversarial" / f"{name}.npz") for run in ("whole", "run")
        )
        np.testing.assert_array_equal(one["images"], other["images"])


def test_what_a_worker_refuses_is_one_line_here(data, two):
    with pytest.raises(UserError, match=r"\A[^\n]*wrong[^\n]*\Z"):
        score(TinyNet().eval(), data, ["clean", Wrong()], "0.06", executor=two)


def test_workers_of_other_versions_are_refused(monkeypatch, notes):
    monkeypatch.setattr("ferd_eval.results.manifest.__version__", "99.0")
    with pytest.raises(UserError, match=r"worker.*ferd_eval 0\..*this machine 99\.0.*Install"):
        RayExecutor(None, ["cpu"], note=notes.note)


def test_device_and_executor_exclude_each_other(data, two):
    with pytest.raises(UserError, match="exclude each other"):
        score(TinyNet().eval(), data, **ASKED, device="cpu", executor=two)
