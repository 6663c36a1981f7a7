"""``leaderboard.csv``: one line for each figure, in full precision and as printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ferd_eval.metrics.figures import LOWEST
from ferd_eval.report.format import FormattedValue
from ferd_eval.report.leaderboard.build import Board, Column, Leaderboard, Row
from ferd_eval.report.run.csv import guard

COLUMNS = (
    "table", "dataset", "images", "eps", "row", "kind", "seeds", "marks", "attack", "column",
    "figure", "value", "printed", "low", "low_printed", "high", "high_printed", "half",
    "half_printed", "place", "tied_with_best",
)  # fmt: skip


def long_csv(board: Leaderboard) -> str:
    """``value``, ``low``, ``high`` and ``half`` are fractions; printed is per cent, or NSD."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in board.boards:
        for row in (*each.rows, *each.reported):
            for column in each.columns:
                writer.writerows(_lines(each, row, column))
    return stream.getvalue()


def _lines(board: Board, row: Row, column: Column) -> Iterator[list[str]]:
    images = "" if board.images is None else str(board.images)
    for key in board.figures:
        score = row.score(column, key)
        if row.reported and score.figure.value is None:
            continue
        yield [
            guard(board.title),
            guard(board.dataset),
            images,
            guard(board.eps),
            guard(row.name),
            "reported" if row.reported else "measured",
            "" if row.reported else str(row.seeds),
            " ".join(row.marks),
            guard(column.attack),
            guard(column.key),
            board.worst_figure or key if key == LOWEST else key,
            *_both(score.figure),
            *_both(score.low),
            *_both(score.high),
            *_both(score.half),
            score.place,
            "" if score.tied is None else str(int(score.tied)),
        ]


def _both(figure: FormattedValue) -> list[str]:
    """Value and print; an ASCII minus and nothing for no value, as spreadsheets read."""
    if figure.value is None:
        return ["", ""]
    return [repr(figure.value), figure.text.replace("\N{MINUS SIGN}", "-")]
