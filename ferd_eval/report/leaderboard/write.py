"""Write a leaderboard's folder: the same rows in five formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferd_eval.io.files import make_folder, write_texts
from ferd_eval.io.json import to_json
from ferd_eval.metrics.figures import LOWEST
from ferd_eval.report import render
from ferd_eval.report.format import FormattedValue
from ferd_eval.report.leaderboard.latex import LatexStyle, lay_out, notes_under
from ferd_eval.report.leaderboard.model import RULE, Board, Leaderboard, Row, Score
from ferd_eval.report.render import CsvCell, csv_text

#: Those of every page with boards.
STYLE_AND_SCRIPT = {"styles": ("report.css", "leaderboard.css"), "scripts": ("sort.js",)}

_CSV_COLUMNS = (
    "table", "dataset", "images", "eps", "row", "kind", "seeds", "marks", "attack", "column",
    "figure", "value", "printed", "low", "low_printed", "high", "high_printed", "half",
    "half_printed", "place", "tied_with_best",
)  # fmt: skip


def write_leaderboard(
    folder: Path, board: Leaderboard, style: LatexStyle | None = None
) -> tuple[Path, ...]:
    """Write ``leaderboard`` as .md, .csv, .tex, .json and .html, the last of which opens best.

    Args:
        style: of the .tex file; by default as wide as a page at most, with intervals.

    Raises:
        UserError: the folder cannot be written.
    """
    of: dict[str, Any] = {"board": board, "rule": RULE}
    style = style or LatexStyle()
    tables = [(each, lay_out(each, style), notes_under(each, style)) for each in board.boards]
    contents = {
        "leaderboard.md": render.text("leaderboard.md.j2", **of),
        "leaderboard.csv": csv_text(_CSV_COLUMNS, _csv_lines(board)),
        "leaderboard.tex": render.text("leaderboard.tex.j2", tables=tables, style=style),
        "leaderboard.json": to_json(record(board)),
        "leaderboard.html": render.page("leaderboard.html.j2", **STYLE_AND_SCRIPT, **of),
    }
    make_folder(folder)
    return write_texts(folder, contents)


def _csv_lines(board: Leaderboard) -> Iterator[list[CsvCell]]:
    """One for each figure: fractions in full precision, and as printed (per cent, or NSD)."""
    cells = (
        (of, row, column, key, row.score(column, key))
        for of in board.boards
        for row in (*of.rows, *of.reported)
        for column in of.columns
        for key in of.figures
    )
    for of, row, column, key, score in cells:
        figures = (score.figure, score.low, score.high, score.half)
        if not (row.reported and score.figure.value is None):
            yield [
                of.title, of.dataset, of.images, of.eps, row.name,
                "reported" if row.reported else "measured", None if row.reported else row.seeds,
                " ".join(row.marks), column.attack, column.key,
                of.worst_figure or key if key == LOWEST else key,
                *(cell for figure in figures for cell in (figure.value, figure)),
                score.place, None if score.tied is None else int(score.tied),
            ]  # fmt: skip


def record(board: Leaderboard) -> dict[str, Any]:
    """``leaderboard.json``: values as fractions and as printed."""
    return {"title": board.title, "tables": [_board(of) for of in board.boards]}


def _board(of: Board) -> dict[str, Any]:
    return {
        "title": of.title,
        "dataset": of.dataset,
        "images": of.images,
        "eps": of.eps or None,
        "worst": of.worst_figure or None,
        "columns": [
            {name: getattr(column, name) for name in ("key", "attack", "title", "constants")}
            for column in of.columns
        ],
        "rows": [_row(of, row) for row in of.rows],
        "reported": [_row(of, row) for row in of.reported],
        "source": of.source or None,
        "notes": of.notes,
        "details": [
            {
                "title": table.title,
                "columns": table.columns,
                "rows": [list(map(str, row)) for row in table.rows],
            }
            for table in of.tables
        ],
    }


def _row(of: Board, row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "seeds": row.seeds or None,
        "marks": row.marks,
        "scores": {
            column.key: {key: _score(row.score(column, key)) for key in of.figures}
            for column in of.columns
            if column.key in row.scores
        },
    }


def _score(score: Score) -> dict[str, Any]:
    ends = {"low": score.low, "high": score.high, "half95": score.half}
    return {
        **_figure(score.figure),
        **{name: _figure(end) for name, end in ends.items()},
        "place": score.place or None,
        "tied_with_best": score.tied,
    }


def _figure(figure: FormattedValue) -> dict[str, Any]:
    return {"value": figure.value, "printed": None if figure.value is None else figure.text}
