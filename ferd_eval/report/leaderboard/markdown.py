"""``leaderboard.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ferd_eval.io.escape import escape_markdown
from ferd_eval.report.format import Table
from ferd_eval.report.leaderboard.model import RULE, Board, Leaderboard, Place, Row, Score
from ferd_eval.report.render import environment

_PLACED = {Place.BEST: "**{}**", Place.SECOND: "<u>{}</u>", Place.NONE: "{}"}


def markdown(board: Leaderboard) -> str:
    """Render as GitHub-flavoured Markdown; names from files are escaped."""
    lines = [f"# {escape_markdown(board.title)}", ""]
    for each in board.boards:
        lines += [f"## {escape_markdown(each.title)}", "", *board_lines(each), ""]
        lines += [f"- {escape_markdown(note)}" for note in each.notes]
        lines.append("")
        for table in each.tables:
            lines += table_lines(table)
    return "\n".join(lines).rstrip() + "\n"


def board_lines(board: Board, links: Mapping[str, str] | None = None) -> Iterator[str]:
    """The rows of a board.

    Args:
        links: name of a row → its link.
    """
    headings = [
        f"{escape_markdown(column.title)} {board.heading(figure)}"
        for column in board.columns
        for figure in board.figures
    ]
    yield _line("Row", *headings)
    yield _line("---", *["---:"] * len(headings))
    for row in board.rows:
        yield _row(board, row, (links or {}).get(row.name, ""))
    if board.reported:
        yield _line(f"*{RULE}*", *[""] * len(headings))
    for row in board.reported:
        yield _row(board, row)


def _row(board: Board, row: Row, link: str = "") -> str:
    name = f"[{escape_markdown(row.name)}]({link})" if link else escape_markdown(row.name)
    cells = (_cell(row.score(column, key)) for column in board.columns for key in board.figures)
    return _line(name + (f" {escape_markdown(row.label)}" if row.label else ""), *cells)


def _cell(score: Score) -> str:
    text = _PLACED[score.place].format(score.figure)
    interval = f" ({score.interval})" if score.interval else ""
    return ("≈ " if score.tied else "") + text + interval


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def table_lines(table: Table, level: int = 3) -> Iterator[str]:
    """A table under its own heading."""
    template = environment(html=False).get_template("table.md.j2")
    yield from (f"{'#' * level} {escape_markdown(table.title)}", "")
    yield from str(template.make_module().table(table)).splitlines()  # type: ignore[attr-defined]
    yield ""
