"""Tables and bars on a terminal, for the reports of a run, a comparison and a leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import FormattedValue, Table

#: Most classes drawn; the files list all.
MOST_BARS = 20


def plain_table() -> RichTable:
    """An empty one, with a line below its head only."""
    return RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def rich_table(of: Table, headings: Sequence[str]) -> RichTable:
    """A table for the terminal; where it is too narrow, names take a second line, numbers do not.

    Args:
        headings: of the columns, in place of their own.
    """
    table = plain_table()
    for heading, cell in zip(headings, of.rows[0], strict=True):
        number = isinstance(cell, FormattedValue)
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(Text(heading), justify=justify, no_wrap=number, overflow="fold")
    for r, row in enumerate(of.rows):
        styles = ["bold" if (r, c) in of.best else "" for c in range(len(row))]
        table.add_row(*(Text(str(cell), style=s) for cell, s in zip(row, styles, strict=True)))
    return table


def bar_table(numbers: Sequence[str], widest_name: int, *, head: bool) -> RichTable:
    """An empty one for a name, numbers under their headings, a mark, and a bar."""
    table = RichTable(box=None, show_header=head, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
    table.add_column("", max_width=widest_name, no_wrap=True, overflow="ellipsis")
    for heading in numbers:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    return table


def not_drawn(with_images: int, classes: int) -> Iterator[Text]:
    """What the bars leave out."""
    if with_images > MOST_BARS:
        more = counted(with_images - MOST_BARS, "more class", "more classes")
        yield Text(f"and {more} in the files", style="dim")
    if hidden := classes - with_images:
        yield Text(f"not shown: {hidden} class{'es' * (hidden > 1)} without images", style="dim")


@dataclass(frozen=True)
class Bar:
    """``█████├──●──┤``, or ``   ├─│─●──┤   ``: an interval on a track as wide as the column.

    Attributes:
        value: where, as a share of the track.
        ends: of the interval, likewise; None without one.
        zero: marked by a line; None fills the track up to the interval.
    """

    value: float
    ends: tuple[float, float] | None
    zero: float | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        fill, left, dash, point, right, zero = "#|-o|:" if options.ascii_only else "█├─●┤│"
        width = max(options.max_width, 11)

        def place(share: float) -> int:
            return min(max(round(share * (width - 1)), 0), width - 1)

        track = [" "] * width
        if self.ends is not None:
            low, high = map(place, self.ends)
            track[low : high + 1] = dash * (high - low + 1)
            if low < high:
                track[low], track[high] = left, right
            if self.zero is None:
                track[:low] = fill * low
        if self.zero is not None:
            track[place(self.zero)] = zero
        track[place(self.value)] = point
        yield Text("".join(track))
