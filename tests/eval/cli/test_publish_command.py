"""``ferd-eval publish``: what it writes, what it says, how it exits; and our own published page."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.cli import app
from ferd_eval.io.json import to_json
from ferd_eval.metrics import scorecard
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.runtime.command_line import run
from tests.conftest import ROOT


@pytest.fixture
def command(run_command: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Run the command in a folder with one published run; its status, output and error output."""
    from tests.eval.metrics.simulated_run import simulate

    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        made = simulate(per_class=12, seed=seed)
        digest = hashlib.sha256(bytes([seed])).hexdigest()
        made = Outcomes(made.table, {**made.manifest, "checkpoint": {"sha256": digest}})
        folder = tmp_path / "reports" / "mine" / f"net-{seed}"
        made.save(folder)
        (folder / "scorecard.json").write_text(to_json(scorecard(made).to_dict()))
        (folder / "outcomes.parquet").unlink()
    return partial(run_command, "publish")


def test_our_own_page_is_what_publish_would_write(capsys: Any) -> None:
    """Fails where reports/published is stale: run ``ferd-eval publish`` and commit the result."""
    status = run(app, ["publish", str(ROOT / "reports"), "--check"], "ferd-eval")
    assert (status, capsys.readouterr().err) == (0, "")


def test_it_writes_three_files_and_the_page_is_the_last_line(command: Any, tmp_path: Path) -> None:
    assert command() == (0, "reports/published/index.html\n", "")
    written = {file.name for file in (tmp_path / "reports/published").iterdir()}
    assert written == {"index.html", "index.md", "results.csv"}
    assert command("reports", "--check") == (0, "", "")


def test_check_writes_nothing_and_names_what_is_missing_in_one_line(
    command: Any, tmp_path: Path
) -> None:
    status, out, err = command("--check")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "reports/published/index.html is missing" in err
    assert err.endswith("Run ferd-eval publish reports.\n")
    assert not (tmp_path / "reports/published").exists()


def test_a_run_that_is_added_changed_or_taken_away_makes_the_page_stale(
    command: Any, tmp_path: Path
) -> None:
    command()
    net = tmp_path / "reports/mine/net-1"
    shutil.move(net, tmp_path / "away")
    status, _, err = command("--check")
    assert (status, err.count("\n")) == (1, 1)
    assert "reports/published/results.csv is stale" in err
    shutil.move(tmp_path / "away", net)
    assert command("--check")[0] == 0
    record = json.loads((net / "manifest.json").read_text())
    record["finished"] = "2027-01-01T00:00:00+00:00"
    (net / "manifest.json").write_text(json.dumps(record))
    assert command("--check")[0] == 1


def test_a_broken_run_is_said_and_the_others_stand_but_no_check_passes(
    command: Any, tmp_path: Path
) -> None:
    (tmp_path / "reports/mine/net-1/scorecard.json").write_text("{")
    status, out, err = command()
    assert (status, out) == (0, "reports/published/index.html\n")
    assert err.startswith("left out: mine/net-1/scorecard.json cannot be read")
    assert err.count("\n") == 1
    results = (tmp_path / "reports/published/results.csv").read_text()
    assert "mine/net-0" in results
    assert "mine/net-1" not in results
    status, _, again = command("--check")
    assert (status, again) == (1, err)


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_with_nothing_published_is_a_mistake(
    command: Any, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    status, out, err = command(folder)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert folder in err


def test_it_needs_no_torch(command: Any) -> None:
    code = (
        "import sys; from ferd_eval.cli import app, run; "
        "assert run(app, ['publish'], 'ferd-eval') == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
