r"""``leaderboard.tex``: tables to ``\input``, in the layout of the papers; needs booktabs alone."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.io.escape import escape_latex
from ferd_eval.report.leaderboard.model import RULE, Board, Leaderboard, Place, Row, Score

_PLACED = {Place.BEST: r"\textbf{{{}}}", Place.SECOND: r"\underline{{{}}}", Place.NONE: "{}"}


def latex(board: Leaderboard) -> str:
    r"""Render each table as a ``table*`` of its own."""
    lines = [
        r"% \usepackage{booktabs} in the preamble, then \input this file.",
    ]
    for each in board.boards:
        lines += _board(each)
    return "\n".join(lines) + "\n"


def _board(board: Board) -> Iterator[str]:
    width = len(board.figures)
    yield from (r"\begin{table*}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{2.5pt}")
    yield rf"\caption{{{escape_latex(board.title)}}}"
    yield rf"\begin{{tabular}}{{l{'r' * width * len(board.columns)}}}"
    yield r"\toprule"
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(c.title)}}}" for c in board.columns]
    yield " & ".join(["", *groups]) + r" \\"
    yield "".join(
        rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}"
        for i in range(len(board.columns))
    )
    headings = [
        escape_latex(board.heading(figure)) for _ in board.columns for figure in board.figures
    ]
    yield " & ".join(["Row", *headings]) + r" \\"
    yield r"\midrule"
    for row in board.rows:
        yield from _row(board, row)
    if board.reported:
        if board.rows:
            yield r"\midrule"
        columns = 1 + width * len(board.columns)
        yield rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{RULE}}}}} \\"
    for row in board.reported:
        yield from _row(board, row)
    yield from (r"\bottomrule", r"\end{tabular}", "")
    notes = " ".join(escape_latex(note) for note in board.notes)
    yield rf"\smallskip\parbox{{\textwidth}}{{\scriptsize {notes}}}"
    yield from (r"\end{table*}", "")


def _row(board: Board, row: Row) -> Iterator[str]:
    """The figures, and where there are any their intervals on a line below."""
    scores = [row.score(column, figure) for column in board.columns for figure in board.figures]
    name = escape_latex(row.name) + (f" {escape_latex(row.label)}" if row.label else "")
    yield " & ".join([name, *map(_cell, scores)]) + r" \\"
    below = [score.interval and rf"{{\tiny {escape_latex(score.interval)}}}" for score in scores]
    if any(below):
        yield " & ".join(["", *below]) + r" \\"


def _cell(score: Score) -> str:
    text = _PLACED[score.place].format(escape_latex(score.figure.text))
    return (r"$\approx$" if score.tied else "") + text
