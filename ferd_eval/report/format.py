"""A number and the one way it is printed. Every format renders these, so none can disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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


def percent(fraction: float | None) -> FormattedValue:
    """A fraction in per cent (or percentage points), one decimal: 0.5431 → ``54.3``."""
    return FormattedValue(
        fraction, NOTHING if fraction is None else _signed(f"{100 * fraction:.1f}")
    )


def span(ends: tuple[float, float] | None) -> FormattedValue:
    """An interval in per cent, ``40.0 to 46.9``; its value, by which it sorts, is the lower end."""
    if ends is None:
        return FormattedValue(None, NOTHING)
    return FormattedValue(ends[0], f"{percent(ends[0])} to {percent(ends[1])}")


def ratio(value: float | None) -> FormattedValue:
    """NSD, Gini, entropy: three decimals, as in the literature."""
    return FormattedValue(value, NOTHING if value is None else _signed(f"{value:.3f}"))


#: How a figure over classes is printed.
PRINTERS: Mapping[Unit, Callable[[float | None], FormattedValue]] = {
    Unit.FRACTION: percent,
    Unit.RATIO: ratio,
}


def seconds(value: float | None) -> FormattedValue:
    """A duration, one decimal."""
    return FormattedValue(value, NOTHING if value is None else f"{value:.1f}")


def whole(value: int | None) -> FormattedValue:
    """A count."""
    return FormattedValue(value, NOTHING if value is None else str(value))


#: More digits than this tell no two numbers apart that matter.
_MOST_DIGITS = 6


def difference(fraction: float | None) -> FormattedValue:
    """A difference in percentage points with its sign: 0.017 → ``+1.7``."""
    return FormattedValue(fraction, NOTHING if fraction is None else _plus(100 * fraction, 1))


def ratio_difference(value: float | None) -> FormattedValue:
    """A difference of two NSDs with its sign: ``+0.022``."""
    return FormattedValue(value, NOTHING if value is None else _plus(value, 3))


def percent_end(fraction: float | None, apart_from: Sequence[float] = (0.0,)) -> FormattedValue:
    """An end of an interval in points, with as many digits as tell it from what decides."""
    return _end(fraction, apart_from, scale=100, digits=1)


def ratio_end(value: float | None, apart_from: Sequence[float] = (0.0,)) -> FormattedValue:
    """An end of an interval of an NSD, likewise."""
    return _end(value, apart_from, scale=1, digits=3)


def probability(p: float | None) -> FormattedValue:
    """A p-value, three decimals, more where these would hide on which side of 0.05 it lies."""
    if p is not None and 0 <= p < 0.0005:
        return FormattedValue(p, "<0.001")
    return _end(p, (0.05,), scale=1, digits=3)


def _end(
    value: float | None, apart_from: Sequence[float], scale: float, digits: int
) -> FormattedValue:
    if value is None:
        return FormattedValue(None, NOTHING)

    def hides(digits: int) -> bool:
        text = f"{scale * value:.{digits}f}"
        return any(float(text) == float(f"{scale * other:.{digits}f}") for other in apart_from)

    enough = next((more for more in range(digits, _MOST_DIGITS + 1) if not hides(more)), digits)
    return FormattedValue(value, _signed(f"{scale * value:.{enough}f}"))


def _plus(value: float, digits: int) -> str:
    text = _signed(f"{value:.{digits}f}")
    return f"+{text}" if value > 0 and text.strip("0.") else text


def _signed(text: str) -> str:
    """Print a true minus, and no sign before a zero."""
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else "\N{MINUS SIGN}" + text[1:]
    return text


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
