"""``leaderboard.json``: everything on a leaderboard."""

from __future__ import annotations

from typing import Any

from ferd_eval.report.format import FormattedValue
from ferd_eval.report.leaderboard.model import Board, Leaderboard, Row, Score


def record(board: Leaderboard) -> dict[str, Any]:
    """JSON form: values as fractions and as printed."""
    return {"title": board.title, "tables": [_board(each) for each in board.boards]}


def _board(board: Board) -> dict[str, Any]:
    return {
        "title": board.title,
        "dataset": board.dataset,
        "images": board.images,
        "eps": board.eps or None,
        "worst": board.worst_figure or None,
        "columns": [
            {name: getattr(column, name) for name in ("key", "attack", "title", "constants")}
            for column in board.columns
        ],
        "rows": [_row(board, row) for row in board.rows],
        "reported": [_row(board, row) for row in board.reported],
        "source": board.source or None,
        "notes": list(board.notes),
        "details": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [[str(cell) for cell in row] for row in table.rows],
            }
            for table in board.tables
        ],
    }


def _row(board: Board, row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "seeds": row.seeds or None,
        "marks": list(row.marks),
        "scores": {
            column.key: {key: _score(row.score(column, key)) for key in board.figures}
            for column in board.columns
            if column.key in row.scores
        },
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        **_figure(score.figure),
        "low": _figure(score.low),
        "high": _figure(score.high),
        "half95": _figure(score.half),
        "place": score.place or None,
        "tied_with_best": score.tied,
    }


def _figure(figure: FormattedValue) -> dict[str, Any]:
    return {"value": figure.value, "printed": None if figure.value is None else figure.text}
