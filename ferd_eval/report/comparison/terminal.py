"""A comparison on a terminal: the verdict, overall differences, and a bar for each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.comparison.model import ClassDeltaLine, ComparisonView
from ferd_eval.report.format import FormattedValue, Table
from ferd_eval.report.run.terminal import rich_table

#: Of a longer list both ends are shown; the whole list is in the files.
_MOST_BARS = 20

#: Names of runs at the head of columns; the whole names stand in the title.
_LONGEST_NAME = 14


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
    lines = [line for line in view.classes if line.difference.value is not None]
    yield Text(f"Classes under {view.attack}: {view.direction}, points", style="bold")
    yield Text(
        f"▲ ▼ higher, lower beyond chance; 95 % intervals on −{100 * view.reach:g} to "
        f"+{100 * view.reach:g}",
        style="dim",
    )
    table = RichTable(box=None, show_header=True, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("", max_width=18, no_wrap=True, overflow="ellipsis")
    for name in (view.first, view.second):
        table.add_column(Text(_short(name)), justify="right", no_wrap=True)
    table.add_column("Δ", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    for line in _both_ends(lines):
        if line is None:
            table.add_row("…")
            continue
        table.add_row(
            Text(line.name),
            *(Text(figure.text) for figure in (line.first, line.second, line.difference)),
            {"higher": "▲", "lower": "▼", "": ""}[line.finding],
            _Bar(line, view.reach),
        )
    yield table
    if len(lines) > _MOST_BARS:
        more = counted(len(lines) - _MOST_BARS, "more class", "more classes")
        yield Text(f"and {more} in the files", style="dim")
    if view.taken_alone:
        yield Text(view.taken_alone, style="dim")
    hidden = len(view.classes) - len(lines)
    if hidden:
        yield Text(f"not shown: {hidden} class{'es' * (hidden > 1)} without images", style="dim")


def _both_ends(lines: Sequence[ClassDeltaLine]) -> Sequence[ClassDeltaLine | None]:
    if len(lines) <= _MOST_BARS:
        return lines
    half = _MOST_BARS // 2
    return [*lines[:half], None, *lines[-half:]]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


@dataclass(frozen=True)
class _Bar:
    """``   ├─│─●──┤   ``: an interval beside zero, as wide as the column."""

    line: ClassDeltaLine
    reach: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        left, dash, point, right, zero = "|-o|:" if options.ascii_only else "├─●┤│"
        width = max(options.max_width, 11)
        track = [" "] * width
        value = self._cell(self.line.difference, width)
        if self.line.low95.value is not None:
            low, high = (self._cell(end, width) for end in (self.line.low95, self.line.high95))
            track[low : high + 1] = [dash] * (high - low + 1)
            if low < high:
                track[low], track[high] = left, right
        track[self._place(0.0, width)] = zero
        track[value] = point
        yield Text("".join(track))

    def _cell(self, figure: FormattedValue, width: int) -> int:
        assert figure.value is not None, "a class without images has no bar"
        return self._place(figure.value / self.reach, width)

    def _place(self, share: float, width: int) -> int:
        return min(max(round((share + 1) / 2 * (width - 1)), 0), width - 1)
