"""A comparison on a terminal: the verdict, overall differences, and a bar for each class."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from ferd_eval.report.comparison.model import ComparisonView, Line
from ferd_eval.report.format import Table
from ferd_eval.report.terminal import MOST_BARS, Bar, bar_table, not_drawn, rich_table

#: Names of runs at the head of columns; the whole names stand in the title.
_LONGEST_NAME = 14

_MARKS = {"higher": "▲", "lower": "▼", "": ""}


def render_comparison(view: ComparisonView) -> RenderableType:
    """Lay it out for a console of any width; needs no colour."""
    parts: list[RenderableType] = [
        Text(view.title, style="bold"),
        Text(),
        Text.assemble((f"{view.verdict}. ", "bold"), view.headline),
        Text(),
        *(Text(sentence) for sentence in view.sentences),
        *(Text(f"warning: {warning}", style="yellow") for warning in view.warnings),
    ]
    parts += [Text(), *_titled(view.tables["overall"]), Text(view.split_sentence)]
    if len(view.by_attack) > 1:
        parts += [Text(), *_titled(view.tables["attacks"])]
    if "reference" in view.tables:
        parts += [Text(), *_titled(view.tables["reference"])]
    return Group(*parts, Text(), *_bars(view))


def _titled(of: Table) -> Iterator[RenderableType]:
    yield Text(of.title, style="bold")
    yield rich_table(of, [_short(column) for column in of.columns])


def _bars(view: ComparisonView) -> Iterator[RenderableType]:
    """A bar for each class; of many classes both ends of the list."""
    lines = [line for line in view.classes if line.figures["difference"].value is not None]
    yield Text(f"Classes under {view.attack}: {view.direction}, points", style="bold")
    yield Text(
        f"▲ ▼ higher, lower beyond chance; 95 % intervals on −{100 * view.reach:g} to "
        f"+{100 * view.reach:g}",
        style="dim",
    )
    table = bar_table([_short(view.first), _short(view.second), "Δ"], 18, head=True)
    drawn: list[Line | None] = [*lines]
    if len(lines) > MOST_BARS:
        drawn[MOST_BARS // 2 : -(MOST_BARS // 2)] = [None]
    for line in drawn:
        if line is None:
            table.add_row("…")
            continue
        numbers = (Text(str(each)) for each in line.cells("first", "second", "difference"))
        table.add_row(Text(line.name), *numbers, _MARKS[line.finding], _bar(line, view.reach))
    yield table
    yield from not_drawn(len(lines), len(view.classes))
    if view.taken_alone:
        yield Text(view.taken_alone, style="dim")


def _bar(line: Line, reach: float) -> Bar:
    """From −`reach` to +`reach`."""
    low, value, high = (
        None if each.value is None else (each.value / reach + 1) / 2
        for each in line.cells("low95", "difference", "high95")
    )
    assert value is not None, "a class without images has no bar"
    return Bar(value, None if low is None or high is None else (low, high), zero=0.5)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
