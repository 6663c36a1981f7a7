"""What notebooks show of a scorecard, a comparison or a leaderboard: the tables of its report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from ferd_eval.metrics import Scorecard
from ferd_eval.report import render
from ferd_eval.report.comparison.build import comparison_view
from ferd_eval.report.comparison.model import ComparisonReport
from ferd_eval.report.format import Table
from ferd_eval.report.leaderboard.model import RULE, Leaderboard
from ferd_eval.report.run.build import view
from ferd_eval.report.run.model import Run


@singledispatch
def html(found: object) -> str:
    """A part of a page, with its style; every name in it is escaped."""
    raise AssertionError(f"there is no report on a {type(found).__name__}")


@html.register
def _(card: Scorecard) -> str:
    name = str(card.checkpoint.get("name") or card.model.get("architecture") or "the network")
    page = view([Run(name, card, {})])
    (run,) = page.runs
    parts = ("classes", "groups", "profiles")
    return _part(
        page.title,
        run.sentences,
        run.warnings,
        [page.summary, *(table for part in parts for table in run.tables[part])],
    )


@html.register
def _(report: ComparisonReport) -> str:
    found = comparison_view(report)
    parts = ("overall", "classes", "attacks", "reference")
    return _part(
        found.title,
        [f"{found.verdict}. {found.headline}", *found.sentences],
        found.warnings,
        [found.tables[part] for part in parts if part in found.tables],
    )


@html.register
def _(board: Leaderboard) -> str:
    return _part(board.title, [], [], [], boards=board.boards, rule=RULE)


def _part(
    title: str,
    sentences: Sequence[str],
    warnings: Sequence[str],
    tables: Sequence[Table],
    **boards: Any,
) -> str:
    return render.page(
        "notebook.html.j2",
        styles=("notebook.css",),
        title=title,
        sentences=sentences,
        warnings=warnings,
        tables=tables,
        **{"boards": (), "rule": "", **boards},
    )
