"""``index.md``."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.io.escape import escape_markdown
from ferd_eval.report.format import Cell, Table
from ferd_eval.report.leaderboard.markdown import board_lines, table_lines
from ferd_eval.report.published.index import HOW_TO_ADD, TITLE, Hub
from ferd_eval.report.published.link import Link
from ferd_eval.report.published.ranking import Ranking


def markdown(hub: Hub) -> str:
    """Render as GitHub-flavoured Markdown; names from files are escaped."""
    lines = [f"# {TITLE}", "", HOW_TO_ADD, ""]
    lines += _linked(hub.reports)
    for each in hub.rankings:
        lines += _ranking(each)
    lines += _linked(hub.origins)
    if hub.doubts.rows:
        lines += table_lines(hub.doubts, level=2)
    return "\n".join(lines).rstrip() + "\n"


def _ranking(ranking: Ranking) -> Iterator[str]:
    yield from (f"## {escape_markdown(ranking.title)}", "")
    if ranking.methods is not None:
        yield from ("### Methods", "", *board_lines(ranking.methods), "")
    yield from ("### Networks", "", *board_lines(ranking.networks, ranking.links), "")
    for note in ranking.notes:
        yield f"- {escape_markdown(note)}"
    yield ""
    yield from table_lines(ranking.lowest)
    yield from table_lines(ranking.constants)


def _linked(table: Table) -> Iterator[str]:
    yield from (f"## {escape_markdown(table.title)}", "")
    yield f"| {' | '.join(map(escape_markdown, table.columns))} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""
    if table.note:
        yield from (escape_markdown(table.note), "")


def _cell(cell: Cell) -> str:
    linked = isinstance(cell, Link) and cell.href
    return f"[{escape_markdown(cell)}]({linked})" if linked else escape_markdown(cell)
