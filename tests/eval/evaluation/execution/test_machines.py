"""Clusters of several machines, as far as Ray can tell, and the command line that asks for them."""

from __future__ import annotations

import pandas as pd
import pytest

from ferd_eval import UserError, score
from ferd_eval.cli import main
from tests.conftest import TinyNet
from tests.eval.evaluation.execution.conftest import ASKED, Notes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ferd[cluster]'")

from ferd_eval.evaluation.execution.ray_executor import RayExecutor  # noqa: E402 -- needs Ray

pytestmark = pytest.mark.usefixtures("one_thread", "small_shards")


def test_a_lost_machine_costs_nothing_but_time(data, tmp_path, notes, capsys):
    from ray.cluster_utils import Cluster as Machines

    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1})
    second = machines.add_node(num_cpus=1)
    net = TinyNet().eval()
    alone = score(net, data, **ASKED)

    class Unplug(Notes):
        done = 0

        def advance(self, text, cost, left):
            self.done += 1
            if self.done == 5:
                machines.remove_node(second, allow_graceful=False)

    reporter = Unplug()
    try:
        address = machines.address
        cluster = RayExecutor(address, note=reporter.note)
        try:
            both = score(net, data, **ASKED, executor=cluster, reporter=reporter)
        finally:
            cluster.end()
    finally:
        machines.shutdown()
    assert reporter.done > 5
    pd.testing.assert_frame_equal(alone.table, both.table, check_exact=True)
    reason = both.manifest["device"]["reason"]
    assert reason == f"--cluster {address}: {reason.partition(': ')[2]}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"--cluster 127\.0\.0\.1:1: .*ray start --head"),
        ("somewhere", "no address. Give HOST:PORT"),
        ("127.0.0.1:70000", "no address. Give HOST:PORT"),
    ],
)
def test_no_cluster_at_the_address(address, said, notes):
    with pytest.raises(UserError, match=said):
        RayExecutor(address, note=notes.note)


# The command line


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_several_checkpoints_and_an_attack_of_the_users_on_two_devices(tmp_path, capsys):
    from ferd_eval.models.demo import demo_checkpoints

    mine = tmp_path / "mine.py"
    mine.write_text(
        "from ferd_eval import Attack\n"
        "class Still(Attack):\n"
        "    family, steps = 'still', 1\n"
        "    def perturb(self, problem):\n"
        "        return problem.x_BCHW\n"
    )
    with demo_checkpoints() as files:
        arguments = ["score", *map(str, files), "--dataset", "demo", "--limit", "12"]
        arguments += ["--attacks", "fgsm,pgd", "--attack-file", f"{mine}:Still"]
        assert run(*arguments, "--out", str(tmp_path / "one"), "--device", "cpu") == 0
        assert run(*arguments, "--out", str(tmp_path / "two"), "--device", "cpu,cpu") == 0
        assert capsys.readouterr().out.strip().endswith("two/report.html")
        for file in files:
            tables = [
                pd.read_parquet(tmp_path / each / file.stem / "outcomes.parquet")
                for each in ("one", "two")
            ]
            pd.testing.assert_frame_equal(*tables, check_exact=True)
            assert (tmp_path / "two" / file.stem / "report.html").is_file()


def test_without_ray_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    from ferd_eval.models.demo import demo_checkpoints

    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with demo_checkpoints() as files:
        for flags in (["--device", "cpu,cpu"], ["--cluster", "auto"]):
            out = ["--out", str(tmp_path / flags[0])]
            assert run("score", str(files[0]), "--dataset", "demo", *flags, *out) == 2
            assert "pip install 'ferd[cluster]'" in capsys.readouterr().err
    assert run("score", "x.pt", "--dataset", "demo", "--cluster", "auto", "--device", "cpu") == 2
    assert "exclude each other" in capsys.readouterr().err
