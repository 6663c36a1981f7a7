"""The report on a terminal: a table of all attacks and a bar for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import FormattedValue, Table
from ferd_eval.report.run.model import ClassLine, RunView, View

#: Longer lists of classes are cut to the lowest; the whole list is in the files.
_MOST_BARS = 20

#: Columns of the summary that 80 characters do not hold; the second only where runs are compared.
_LEFT_OUT = ("SD", "Could be the worst")

#: Runs whose classes are drawn; a longer list would scroll the table away.
_MOST_RUNS = 4


def render_terminal(view: View) -> RenderableType:
    """Lay the report out for a console of any width; needs no colour.

    One run opens with its three sentences; several are told apart by their bars, and their
    sentences stand in the files.
    """
    parts: list[RenderableType] = [Text(view.title, style="bold")]
    several = len(view.runs) > 1
    for run in view.runs:
        if not several:
            parts += [Text(), *(Text(sentence) for sentence in run.sentences)]
        name = f"{run.name}: " if several else ""
        parts += [Text(f"warning: {name}{warning}", style="yellow") for warning in run.warnings]
    parts += [Text(), _summary(view.summary, without=_LEFT_OUT if several else _LEFT_OUT[:1])]
    for run in view.runs[:_MOST_RUNS]:
        parts += [Text(), *_bars(run, f"{run.name}: classes" if several else "Classes")]
    return Group(*parts)


def _summary(of: Table, without: Sequence[str]) -> RichTable:
    """All attacks; headings of two words stand on two lines, so that 80 columns hold the table."""
    kept = [i for i, column in enumerate(of.columns) if column not in without]
    shown = Table(
        of.title,
        tuple(of.columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in of.rows),
        best=frozenset((row, kept.index(i)) for row, i in of.best if i in kept),
    )
    headings = [
        re.sub(r"\s(?!%)", "\n", column, count=1) if isinstance(cell, FormattedValue) else column
        for column, cell in zip(shown.columns, shown.rows[0], strict=True)
    ]
    return rich_table(shown, headings)


def rich_table(of: Table, headings: Sequence[str]) -> RichTable:
    """A table for the terminal; where it is too narrow, names take a second line, numbers do not.

    Args:
        headings: of the columns, in place of their own.
    """
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading, cell in zip(headings, of.rows[0], strict=True):
        number = isinstance(cell, FormattedValue)
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(Text(heading), justify=justify, no_wrap=number, overflow="fold")
    for r, row in enumerate(of.rows):
        styles = ["bold" if (r, c) in of.best else "" for c in range(len(row))]
        table.add_row(*(Text(str(cell), style=s) for cell, s in zip(row, styles, strict=True)))
    return table


def _bars(run: RunView, title: str) -> Iterator[RenderableType]:
    shown = run.shown
    lines = [line for line in shown.lowest_first if line.n.value]
    yield Text(f"{title} under {shown.id}, lowest first: accuracy and 95 % interval", style="bold")
    if shown.possibly_worst:
        yield Text("* could be the worst class (95 % confidence)", style="dim")
    table = RichTable(
        box=None, show_header=False, pad_edge=False, expand=True, padding=(0, 1, 0, 0)
    )
    table.add_column(max_width=24, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for line in lines[:_MOST_BARS]:
        mark = "*" if line.possibly_worst else ""
        table.add_row(Text(line.name), Text(line.accuracy.text), mark, _Bar(line))
    table.add_row("", "", "", _Scale())
    yield table
    if len(lines) > _MOST_BARS:
        more = counted(len(lines) - _MOST_BARS, "more class", "more classes")
        yield Text(f"and {more} in the files", style="dim")
    hidden = len(shown.lowest_first) - len(lines)
    if hidden:
        yield Text(f"not shown: {hidden} class{'es' * (hidden > 1)} without images", style="dim")


@dataclass(frozen=True)
class _Bar:
    """``█████├──●──┤`` on a track from 0 to 100 %, as wide as the column."""

    line: ClassLine

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        fill, left, dash, point, right = "#|-o|" if options.ascii_only else "█├─●┤"
        width = max(options.max_width, 10)
        at_low, at_value, at_high = (
            _cell(each.value, width) for each in (self.line.low, self.line.accuracy, self.line.high)
        )
        track = [fill] * at_low + [dash] * (at_high - at_low + 1)
        if at_low < at_high:
            track[at_low], track[at_high] = left, right
        track[at_value] = point
        yield Text("".join(track))


class _Scale:
    """``0       50       100 %`` under the bars."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = max(options.max_width, 10)
        left = width // 2 - 1
        yield Text("0" + "50".rjust(left + 1) + "100 %".rjust(width - left - 2), style="dim")


def _cell(fraction: float | None, width: int) -> int:
    assert fraction is not None, "a class without images has no bar"
    return min(int(fraction * width), width - 1)
