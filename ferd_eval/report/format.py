"""A number and the one way it is printed. Every format renders these, so none can disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from ferd_eval.metrics.figures import Unit

#: Printed where there is no value.
NOTHING = "–"


@dataclass(frozen=True)
class FormattedValue:
    """A value as in ``scorecard.json`` and its printed form; None prints as a dash."""

    value: float | int | None
    text: str

    def __str__(self) -> str:
        return self.text


#: No value.
EMPTY = FormattedValue(None, NOTHING)


def _formatted(value: float | None, digits: int, scale: float = 1.0) -> FormattedValue:
    return EMPTY if value is None else FormattedValue(value, _signed(scale * value, digits))


def percent(fraction: float | None) -> FormattedValue:
    """A fraction in per cent (or percentage points), one decimal: 0.5431 → ``54.3``."""
    return _formatted(fraction, 1, 100)


def ends(interval: tuple[float, float] | None) -> tuple[FormattedValue, FormattedValue]:
    """Both ends of an interval in per cent; empty without one."""
    low, high = interval or (None, None)
    return percent(low), percent(high)


def span(interval: tuple[float, float] | None) -> FormattedValue:
    """An interval in per cent, ``40.0 to 46.9``; its value, by which it sorts, is the lower end."""
    return between(*ends(interval))


def between(low: FormattedValue, high: FormattedValue) -> FormattedValue:
    """An interval of printed ends, as `span`; empty without a lower end."""
    return EMPTY if low.value is None else FormattedValue(low.value, f"{low} to {high}")


def ratio(value: float | None) -> FormattedValue:
    """NSD, Gini, entropy: three decimals, as in the literature."""
    return _formatted(value, 3)


#: How a figure over classes is printed.
PRINTERS: Mapping[Unit, Callable[[float | None], FormattedValue]] = {
    Unit.FRACTION: percent,
    Unit.RATIO: ratio,
}


def seconds(value: float | None) -> FormattedValue:
    """A duration, one decimal."""
    return _formatted(value, 1)


def whole(value: int | None) -> FormattedValue:
    """A count."""
    return EMPTY if value is None else FormattedValue(value, str(value))


#: Most decimals printed to tell two numbers apart.
_MOST_DIGITS = 6


def difference(fraction: float | None) -> FormattedValue:
    """A difference in percentage points with its sign: 0.017 → ``+1.7``."""
    return _plus(percent(fraction))


def ratio_difference(value: float | None) -> FormattedValue:
    """A difference of two NSDs with its sign: ``+0.022``."""
    return _plus(ratio(value))


def percent_end(fraction: float | None, apart_from: Sequence[float] = (0.0,)) -> FormattedValue:
    """An end of an interval in points, with enough digits to differ from decisive values."""
    return _end(fraction, apart_from, 1, 100)


def ratio_end(value: float | None, apart_from: Sequence[float] = (0.0,)) -> FormattedValue:
    """An end of an interval of an NSD, likewise."""
    return _end(value, apart_from, 3)


def probability(p: float | None) -> FormattedValue:
    """A p-value, three decimals, more where these would hide on which side of 0.05 it lies."""
    if p is not None and 0 <= p < 0.0005:
        return FormattedValue(p, "<0.001")
    return _end(p, (0.05,), 3)


def _end(
    value: float | None, apart_from: Sequence[float], digits: int, scale: float = 1.0
) -> FormattedValue:
    if value is None:
        return EMPTY

    def hides(digits: int) -> bool:
        text = f"{scale * value:.{digits}f}"
        return any(float(text) == float(f"{scale * other:.{digits}f}") for other in apart_from)

    enough = next((more for more in range(digits, _MOST_DIGITS + 1) if not hides(more)), digits)
    return _formatted(value, enough, scale)


def _plus(figure: FormattedValue) -> FormattedValue:
    above = figure.value is not None and figure.value > 0 and figure.text.strip("0.")
    return FormattedValue(figure.value, f"+{figure}") if above else figure


def _signed(value: float, digits: int) -> str:
    """Print a true minus, and no sign before a zero."""
    text = f"{value:.{digits}f}"
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else "\N{MINUS SIGN}" + text[1:]
    return text


class Link(str):
    """A cell's text that leads to a file or folder.

    Attributes:
        href: as `href`; empty without a target.
    """

    __slots__ = ("href",)
    href: str

    def __new__(cls, text: str, path: str) -> Self:
        """Link to a path below the folder of reports; an empty one leads nowhere."""
        link = super().__new__(cls, text)
        link.href = href(path) if path else ""
        return link


def href(path: str) -> str:
    """A path below the folder of reports, seen from a folder in it; no name can lead elsewhere."""
    parts = path.split("/")
    assert not {"", ".", ".."} & {*parts}, f"{path} is no path below the reports"
    return "../" + "/".join(quote(part, safe="") for part in parts)


#: Text stays text (and is escaped); a FormattedValue is right-aligned and sorts by value.
Cell = str | FormattedValue


@dataclass(frozen=True)
class Table:
    """A titled table as Markdown and HTML print it.

    Attributes:
        note: one sentence under the table.
        best: (row, column) of the cells to emphasise.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    best: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    @classmethod
    def of(cls, title: str, rows: Iterable[Mapping[str, Cell]], note: str = "") -> Table:
        """A table of at least one row; each row maps headings to cells."""
        rows = tuple(rows)
        return cls(title, tuple(rows[0]), tuple(tuple(row.values()) for row in rows), note)
