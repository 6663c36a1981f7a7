"""A board as a LaTeX table: which cells stand where, and how wide that comes out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ferd_eval.errors import UserError
from ferd_eval.io.escape import escape_latex
from ferd_eval.metrics.figures import WORST_CLASS
from ferd_eval.report.leaderboard.model import (
    RULE,
    Board,
    Leaderboard,
    Place,
    Row,
    Score,
    short_heading,
)
from ferd_eval.report.leaderboard.notes import ABOUT_INTERVALS

#: Widths in points of a column on a page of two (3.25 in: CVPR, ICML), and of that page's text.
COLUMN, PAGE = 234, 487

#: In points: room beside a column, a character in \scriptsize and in \tiny (a little wide), and ≈.
_ROOM, _SCRIPT, _TINY, _TIE = 5.0, 4.4, 3.1, 6.3

#: Most rows of a page, and of attacks one below the other where there is room beside each other.
_PAGE_ROWS, _TALLEST = 60, 40

_LABEL = re.compile(r"[A-Za-z0-9:./+_-]+")


@dataclass(frozen=True)
class LatexStyle:
    """How ``leaderboard.tex`` is to look.

    Attributes:
        intervals: whether each interval stands in small print under its figure.
        caption: text, which LaTeX prints as it is; by default the board's title.
        label: for ``\\ref``; of several boards the second has ``-2`` appended, and so on.
        transpose: rows are the figures, columns the networks.
        siunitx: numbers stand in columns of siunitx 3, aligned at the point.

    Raises:
        UserError: the label has characters that LaTeX would trip over.
    """

    intervals: bool = True
    caption: str | None = None
    label: str | None = None
    transpose: bool = False
    siunitx: bool = False

    def __post_init__(self) -> None:
        if self.label is not None and not _LABEL.fullmatch(self.label):
            raise UserError(
                f"--label {self.label!r} would break the table. Use letters, digits and :./+_- "
                "alone, as in tab:robustness."
            )


@dataclass(frozen=True)
class _Line:
    heading: str
    scores: Sequence[Score]


@dataclass(frozen=True)
class _Block:
    """Lines under a title, which may be empty."""

    title: str
    lines: Sequence[_Line]


@dataclass(frozen=True)
class LatexTable:
    """A board laid out. Cells and headings come out as LaTeX, everything else as text.

    Attributes:
        groups: titles over columns, with how many columns each spans; some layouts have none.
        names: headings of the columns but the first.
        blocks: what a rule parts.
    """

    style: LatexStyle
    groups: Sequence[tuple[str, int]]
    names: Sequence[str]
    blocks: Sequence[_Block]

    @cached_property
    def width(self) -> float:
        """In points, estimated; rather too wide than too narrow."""
        first = max((len(line.heading) for line in self._lines), default=0)
        widths = [_SCRIPT * first]
        for i, name in enumerate(self.names):
            inside = [_SCRIPT * len(name)]
            if self.style.siunitx:
                inside.append(_SCRIPT * sum(self._digits(i)) + _SCRIPT)
            for score in self._column(i):
                inside.append(_SCRIPT * len(score.figure.text))
                inside.append(_TINY * len(self._interval(score)))
            widths.append(max(inside) + (_TIE if self._has_ties(i) else 0))
        at = 1
        for title, count in self.groups:  # LaTeX gives what a title lacks to its last column
            spare = _SCRIPT * len(title) - sum(widths[at : at + count]) - _ROOM * (count - 1)
            at += count
            widths[at - 1] += max(spare, 0)
        return sum(widths) + _ROOM * len(widths)

    @property
    def environment(self) -> str:
        """``table`` where it fits a column of a page of two, else ``table*``."""
        return "table" if self.width <= COLUMN else "table*"

    @property
    def height(self) -> int:
        """Rows of figures and intervals."""
        return sum(len(list(self.rows(block))) for block in self.blocks)

    @property
    def columns(self) -> str:
        """Argument of ``tabular``."""
        if not self.style.siunitx:
            return "l" + "r" * len(self.names)
        return "l" + "".join(f"S[table-format={self._format(i)}]" for i in range(len(self.names)))

    @property
    def rules(self) -> str:
        """A short rule under each title over columns."""
        made, last = "", 1
        for _, count in self.groups:
            made += f"\\cmidrule(lr){{{last + 1}-{last + count}}}"
            last += count
        return made

    @property
    def heading(self) -> str:
        """Cells with the columns' names; braces show siunitx that they are no numbers."""
        names = map(escape_latex, self.names)
        return "".join(f" & {{{name}}}" if self.style.siunitx else f" & {name}" for name in names)

    def rows(self, block: _Block) -> Iterator[str]:
        """Rows of a block; intervals have one of their own under their figures."""
        for line in block.lines:
            cells = (self._cell(i, score) for i, score in enumerate(line.scores))
            yield " & ".join([escape_latex(line.heading), *cells])
            small = list(map(self._interval, line.scores))
            if any(small):
                yield "".join(
                    f" & {{\\tiny {escape_latex(text)}}}" if text else " & " for text in small
                )

    @property
    def _lines(self) -> Iterator[_Line]:
        return (line for block in self.blocks for line in block.lines)

    def _column(self, i: int) -> Iterator[Score]:
        return (line.scores[i] for line in self._lines)

    def _has_ties(self, i: int) -> bool:
        return any(score.tied for score in self._column(i))

    def _interval(self, score: Score) -> str:
        return score.interval if self.style.intervals else ""

    def _digits(self, i: int) -> tuple[int, int]:
        """Most digits before and after the point in a column."""
        texts = [score.figure.text for score in self._column(i) if score.figure.value is not None]
        parts = [text.partition(".") for text in texts] or [("0", ".", "")]
        return max(len(part[0]) for part in parts), max(len(part[2]) for part in parts)

    def _format(self, i: int) -> str:
        before, after = self._digits(i)
        tie = "{$\\approx$}" if self._has_ties(i) else ""
        return f"{{{tie}{before}.{after}}}"

    def _cell(self, i: int, score: Score) -> str:
        mark = {Place.BEST: "\\textbf{%s}", Place.SECOND: "\\underline{%s}"}.get(score.place, "%s")
        tie = "$\\approx$" if score.tied else ""
        text = escape_latex(score.figure.text)
        if not self.style.siunitx:
            return tie + mark % text
        if score.figure.value is None:
            return f"{{{text}}}"
        if score.place is Place.NONE or (score.place is Place.BEST and not tie):
            return (f"{{{tie}}} " if tie else "") + ("\\bfseries " if score.place else "") + text
        # For siunitx this is text, which it centres: the cell is made as wide as its numbers are.
        before, after = self._digits(i)
        whole, _, decimals = text.partition(".")
        if self._has_ties(i) and not tie:
            tie = "\\phantom{$\\approx$}"
        left = _phantom(before - len(whole))
        right = _phantom(after - len(decimals))
        number = mark % f"\\num{{{text}}}"
        return f"{{{tie}{left}{number}{right}}}"


def _phantom(digits: int) -> str:
    return f"\\phantom{{{'0' * digits}}}" if digits else ""


def lay_out(board: Board, style: LatexStyle) -> LatexTable:
    """Attacks side by side, or one below the other where that fits a column or a page and it not.

    Transposed, each attack has the networks side by side and the figures below each other.
    """
    if style.transpose:
        return _transposed(board, style)
    wide, tall = _side_by_side(board, style), _stacked(board, style)
    fits_a_column = wide.width > COLUMN >= tall.width and tall.height <= _TALLEST
    return tall if fits_a_column or wide.width > PAGE else wide


def misfit(board: Leaderboard, style: LatexStyle) -> str:
    """A sentence where a table is larger than a page; empty where all fit."""
    for table in (lay_out(each, style) for each in board.boards):
        if table.width > PAGE or table.height > _PAGE_ROWS:
            return (
                f"leaderboard.tex: a table is about {table.width:.0f} pt wide and {table.height} "
                f"rows high, and a page has room for {PAGE} and {_PAGE_ROWS}. Choose fewer "
                "--figures, --attacks or runs, or --no-intervals"
                f"{', and leave out --transpose' if style.transpose else ''}."
            )
    return ""


def notes_under(board: Board, style: LatexStyle) -> list[str]:
    """The board's, but those on what the table does not show."""
    return [note for note in board.notes if style.intervals or not note.startswith(ABOUT_INTERVALS)]


def _name(row: Row) -> str:
    return f"{row.name} {row.label}".rstrip()


def _headings(board: Board) -> list[str]:
    """Short ones: the notes say what they mean."""
    if board.worst_figure == WORST_CLASS.key:
        return list(map(short_heading, board.figures))
    return list(map(board.heading, board.figures))


def _side_by_side(board: Board, style: LatexStyle) -> LatexTable:
    blocks = [
        _Block(title, [_Line(_name(row), board.scores(row)) for row in rows])
        for title, rows in (("", board.rows), (RULE, board.reported))
        if rows
    ]
    groups = [(column.title, len(board.figures)) for column in board.columns]
    return LatexTable(style, groups, _headings(board) * len(board.columns), blocks)


def _stacked(board: Board, style: LatexStyle) -> LatexTable:
    blocks = []
    for column in board.columns:
        published = [row for row in board.reported if column.key in row.scores]
        lines = [
            _Line(_name(row), [row.score(column, key) for key in board.figures])
            for row in (*board.rows, *published)
        ]
        blocks.append(_Block(column.title, lines))
    return LatexTable(style, (), _headings(board), blocks)


def _transposed(board: Board, style: LatexStyle) -> LatexTable:
    rows = (*board.rows, *board.reported)
    blocks = [
        _Block(
            column.title,
            [
                _Line(heading, [row.score(column, key) for row in rows])
                for key, heading in zip(board.figures, _headings(board), strict=True)
            ],
        )
        for column in board.columns
    ]
    return LatexTable(style, (), list(map(_name, rows)), blocks)
