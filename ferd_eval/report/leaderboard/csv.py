"""``leaderboard.csv``: one line for each figure, in full precision and as printed."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.metrics.figures import LOWEST
from ferd_eval.report.leaderboard.model import Board, Column, Leaderboard, Row
from ferd_eval.report.render import CsvCell, csv_text

COLUMNS = (
    "table", "dataset", "images", "eps", "row", "kind", "seeds", "marks", "attack", "column",
    "figure", "value", "printed", "low", "low_printed", "high", "high_printed", "half",
    "half_printed", "place", "tied_with_best",
)  # fmt: skip


def long_csv(board: Leaderboard) -> str:
    """``value``, ``low``, ``high`` and ``half`` are fractions; printed is per cent, or NSD."""
    lines = (
        line
        for each in board.boards
        for row in (*each.rows, *each.reported)
        for column in each.columns
        for line in _lines(each, row, column)
    )
    return csv_text(COLUMNS, lines)


def _lines(board: Board, row: Row, column: Column) -> Iterator[list[CsvCell]]:
    for key in board.figures:
        score = row.score(column, key)
        if row.reported and score.figure.value is None:
            continue
        figures = (score.figure, score.low, score.high, score.half)
        yield [
            board.title,
            board.dataset,
            board.images,
            board.eps,
            row.name,
            "reported" if row.reported else "measured",
            None if row.reported else row.seeds,
            " ".join(row.marks),
            column.attack,
            column.key,
            board.worst_figure or key if key == LOWEST else key,
            *(cell for figure in figures for cell in (figure.value, figure)),
            score.place,
            None if score.tied is None else int(score.tied),
        ]
