"""The report on a terminal: a table of all attacks and a bar for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ferd_eval.report.format import FormattedValue, Table, percent
from ferd_eval.report.run.model import RunView, View
from ferd_eval.report.terminal import MOST_BARS, Bar, bar_table, not_drawn, rich_table

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
    shown = replace(
        of,
        columns=tuple(of.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in of.rows),
        best=frozenset((row, kept.index(i)) for row, i in of.best if i in kept),
    )
    headings = [
        re.sub(r"\s(?!%)", "\n", column, count=1) if isinstance(cell, FormattedValue) else column
        for column, cell in zip(shown.columns, shown.rows[0], strict=True)
    ]
    return rich_table(shown, headings)


def _bars(run: RunView, title: str) -> Iterator[RenderableType]:
    shown = run.shown
    classes = [each for each in shown.lowest_first if each.n]
    yield Text(f"{title} under {shown.id}, lowest first: accuracy and 95 % interval", style="bold")
    if shown.possibly_worst:
        yield Text("* could be the worst class (95 % confidence)", style="dim")
    table = bar_table([""], 24, head=False)
    for each in classes[:MOST_BARS]:
        assert each.accuracy is not None, "a class without images has no bar"
        mark = "*" if shown.is_suspect(each) else ""
        bar = Bar(each.accuracy, each.wilson95)
        table.add_row(Text(each.name), Text(percent(each.accuracy).text), mark, bar)
    table.add_row("", "", "", _Scale())
    yield table
    yield from not_drawn(len(classes), len(shown.scores.per_class))


class _Scale:
    """``0       50       100 %`` under the bars."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = max(options.max_width, 10)
        left = width // 2 - 1
        yield Text("0" + "50".rjust(left + 1) + "100 %".rjust(width - left - 2), style="dim")
