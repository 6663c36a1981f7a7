"""``leaderboard.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ferd_eval.io.escape import escape_markdown as escape
from ferd_eval.report.format import FormattedValue, Table
from ferd_eval.report.leaderboard.build import Board, Leaderboard, Place, Row, Score

_PLACED = {Place.BEST: "**{}**", Place.SECOND: "<u>{}</u>", Place.NONE: "{}"}

#: Between measured and published rows.
RULE = "reported, not measured"


def markdown(board: Leaderboard) -> str:
    """Render as GitHub-flavoured Markdown; names from files are escaped."""
    lines = [f"# {escape(board.title)}", ""]
    for each in board.boards:
        lines += _board(each)
    return "\n".join(lines).rstrip() + "\n"


def _board(board: Board) -> Iterator[str]:
    yield from (f"## {escape(board.title)}", "")
    yield from ranking_lines(board)
    yield ""
    for note in board.notes:
        yield f"- {escape(note)}"
    yield ""
    for table in board.tables:
        yield from table_lines(table)


def ranking_lines(board: Board, links: Mapping[str, str] | None = None) -> Iterator[str]:
    """The rows of a leaderboard.

    Args:
        links: name of a row → where it leads.
    """
    headings = [
        f"{escape(column.title)} {board.heading(figure)}"
        for column in board.columns
        for figure in board.figures
    ]
    yield _line(["Row", *headings])
    yield _line(["---", *["---:"] * len(headings)])
    for row in board.rows:
        yield _row(board, row, (links or {}).get(row.name, ""))
    if board.reported:
        yield _line([f"*{RULE}*", *[""] * len(headings)])
    for row in board.reported:
        yield _row(board, row)


def _row(board: Board, row: Row, link: str = "") -> str:
    name = f"[{escape(row.name)}]({link})" if link else escape(row.name)
    return _line(
        [
            name + (f" {escape(row.label)}" if row.label else ""),
            *(_cell(row.score(column, key)) for column in board.columns for key in board.figures),
        ]
    )


def _cell(score: Score) -> str:
    text = _PLACED[score.place].format(score.figure)
    return ("≈ " if score.tied else "") + text + (f" ({score.sure})" if score.sure else "")


def table_lines(table: Table, level: int = 3) -> Iterator[str]:
    """A table under a heading of its own."""
    yield from (f"{'#' * level} {escape(table.title)}", "")
    yield _line([escape(column) for column in table.columns])
    numbers = [bool(table.rows) and isinstance(cell, FormattedValue) for cell in _first(table)]
    yield _line(["---:" if number else "---" for number in numbers])
    for row in table.rows:
        yield _line([escape(cell) for cell in row])
    yield ""
    if table.note:
        yield from (escape(table.note), "")


def _first(table: Table) -> Sequence[object]:
    return table.rows[0] if table.rows else table.columns


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
