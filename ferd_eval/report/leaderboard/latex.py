r"""``leaderboard.tex``: tables to ``\input``, in the layout of the papers; needs booktabs alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ferd_eval.report.leaderboard.build import Board, Leaderboard, Place, Row, Score
from ferd_eval.report.leaderboard.markdown import RULE

_PLACED = {Place.BEST: r"\textbf{{{}}}", Place.SECOND: r"\underline{{{}}}", Place.NONE: "{}"}

#: What LaTeX would act on, and signs that its text fonts lack.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "—": "---",
    "≈": r"$\approx$",
    "±": r"$\pm$",
    "ε": r"$\varepsilon$",
    "∞": r"$_\infty$",
    "†": r"$^\dagger$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "…": r"\ldots{}",
}


def escape(text: str) -> str:
    """Text that LaTeX prints and does not obey; a line break becomes a space.

    Letters outside ASCII stay as they are: LaTeX reads UTF-8 since 2018, as far as its fonts go.
    """
    words = " ".join(text.split())
    spaced = "".join(c for c in words if c == " " or unicodedata.category(c)[0] != "C")
    # No ligature (-- and ?`), and at the start no argument of a \\ before it.
    apart = re.sub(r"-(?=-)|[?!](?=`)", "\\g<0>\0", spaced)
    escaped = "".join(_SPECIAL.get(c, c) for c in apart).replace("\0", "{}")
    return re.sub(r"^([\[*])", r"{\1}", escaped)


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
    yield rf"\caption{{{escape(board.title)}}}"
    yield rf"\begin{{tabular}}{{l{'r' * width * len(board.columns)}}}"
    yield r"\toprule"
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(c.title)}}}" for c in board.columns]
    yield " & ".join(["", *groups]) + r" \\"
    yield "".join(
        rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}"
        for i in range(len(board.columns))
    )
    headings = [escape(board.heading(figure)) for _ in board.columns for figure in board.figures]
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
    notes = " ".join(escape(note) for note in board.notes)
    yield rf"\smallskip\parbox{{\textwidth}}{{\scriptsize {notes}}}"
    yield from (r"\end{table*}", "")


def _row(board: Board, row: Row) -> Iterator[str]:
    """The figures, and where there are any their intervals on a line below."""
    scores = [row.score(column, figure) for column in board.columns for figure in board.figures]
    name = escape(row.name) + (f" {escape(row.label)}" if row.label else "")
    yield " & ".join([name, *map(_cell, scores)]) + r" \\"
    if any(score.sure for score in scores):
        sure = [rf"{{\tiny {escape(score.sure)}}}" if score.sure else "" for score in scores]
        yield " & ".join(["", *sure]) + r" \\"


def _cell(score: Score) -> str:
    text = _PLACED[score.place].format(escape(score.figure.text))
    return (r"$\approx$" if score.tied else "") + text
