"""The leaderboard on a terminal: a table for each attack, so that each fits 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ferd_eval.metrics.figures import board_figures
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.leaderboard.model import RULE, Board, Column, Leaderboard, Place, Row
from ferd_eval.report.terminal import plain_table

_STYLES = {Place.BEST: "bold", Place.SECOND: "underline", Place.NONE: ""}


def render_terminal(board: Leaderboard) -> RenderableType:
    """Lay the leaderboard out for a console of any width."""
    parts: list[RenderableType] = []
    for each in board.boards:
        parts += [Text(each.title, style="bold"), Text()]
        if not each.rows:
            rows = counted(len(each.reported), "published row stands", "published rows stand")
            parts += [Text(f"{rows} in the files."), Text()]
            continue
        for column in each.columns:
            parts += [Text(column.title, style="bold"), _table(each, column), Text()]
        parts += [*(Text(note, style="dim") for note in each.notes), Text()]
    return Group(*parts)


def _table(board: Board, column: Column) -> RichTable:
    table = plain_table()
    table.add_column("Row", overflow="fold", min_width=12)
    for figure in board.figures:
        table.add_column(board.heading(figure), justify="right", no_wrap=True)
        if board_figures()[figure].interval:
            table.add_column("", no_wrap=True)
    for row in board.rows:
        table.add_row(*_cells(board, row, column))
    if board.reported:
        table.add_section()
        table.add_row(Text(RULE, style="italic"))
        for row in board.reported:
            table.add_row(*_cells(board, row, column))
    return table


def _cells(board: Board, row: Row, column: Column) -> list[Text]:
    """The name, and each figure with its interval, in a column of its own where it needs room."""
    cells = [Text(f"{row.name} {row.label}".rstrip())]
    for figure in board.figures:
        score = row.score(column, figure)
        text = Text("≈ " if score.tied else "")
        text.append(score.figure.text, style=_STYLES[score.place])
        cells.append(text)
        if board_figures()[figure].interval:
            cells.append(Text(score.interval, style="dim"))
        elif score.interval:
            text.append(f" {score.interval}", style="dim")
    return cells
