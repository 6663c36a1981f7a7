"""A figure is one entry of a table: it then stands in every format where it belongs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.metrics.figures import FIGURES, Figure, Unit
from ferd_eval.report import write_report
from ferd_eval.report.leaderboard import leaderboard, write_leaderboard
from ferd_eval.report.leaderboard.model import ScoredGroup
from tests.eval.metrics.simulated_run import simulate


def test_a_new_figure_is_one_entry(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = Figure(
        "best_class", "Best class", Unit.FRACTION, True,
        lambda correct_K, n_K: float((correct_K / n_K).max()),
        meaning="of the class seen highest", in_summary=True, board=("best", "Best"),
    )  # fmt: skip
    monkeypatch.setitem(FIGURES, best.key, best)
    outcomes = simulate()
    card = scorecard(outcomes)
    own = {a: max(each.accuracy for each in s.per_class) for a, s in card.attacks.items()}

    run = make_run()
    files = {file.name: file.read_text("utf-8") for file in write_report(tmp_path / "run", [run])}
    stated = json.loads(files["scorecard.json"])["attacks"]
    assert {attack: scores["best_class"] for attack, scores in stated.items()} == own
    rows = [r for r in csv.DictReader(files["report.csv"].splitlines()) if r["metric"] == best.key]
    assert {row["attack"]: float(row["value"]) for row in rows} == own
    for name in ("report.md", "report.html"):
        assert "Best class" in files[name]
        assert "of the class seen highest" in files[name]

    entries = [ScoredGroup(name, (Path(name),), (outcomes,), (card,)) for name in ("A", "B")]
    write_leaderboard(tmp_path, leaderboard(entries))
    table = json.loads((tmp_path / "leaderboard.json").read_text("utf-8"))["tables"][0]
    found = {key: each["best"]["value"] for key, each in table["rows"][0]["scores"].items()}
    assert found == own
    lines = csv.DictReader((tmp_path / "leaderboard.csv").read_text("utf-8").splitlines())
    assert {r["attack"]: float(r["value"]) for r in lines if r["figure"] == "best"} == own
    assert "Best" in (tmp_path / "leaderboard.md").read_text("utf-8")
