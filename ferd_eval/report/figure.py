"""A number and the one way it is printed. Every format renders these, so none can disagree."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Printed where there is no value.
NOTHING = "–"


@dataclass(frozen=True)
class Figure:
    """A value as in ``scorecard.json`` and its printed form; None prints as a dash."""

    value: float | int | None
    text: str

    def __str__(self) -> str:
        return self.text


def percent(fraction: float | None) -> Figure:
    """A fraction in per cent (or percentage points), one decimal: 0.5431 → ``54.3``."""
    return Figure(fraction, NOTHING if fraction is None else _signed(f"{100 * fraction:.1f}"))


def span(ends: tuple[float, float] | None) -> Figure:
    """An interval in per cent, ``40.0 to 46.9``; its value, by which it sorts, is the lower end."""
    if ends is None:
        return Figure(None, NOTHING)
    return Figure(ends[0], f"{percent(ends[0])} to {percent(ends[1])}")


def ratio(value: float | None) -> Figure:
    """NSD, Gini, entropy: three decimals, as in the literature."""
    return Figure(value, NOTHING if value is None else _signed(f"{value:.3f}"))


def seconds(value: float | None) -> Figure:
    """A duration, one decimal."""
    return Figure(value, NOTHING if value is None else f"{value:.1f}")


def whole(value: int | None) -> Figure:
    """A count."""
    return Figure(value, NOTHING if value is None else str(value))


def _signed(text: str) -> str:
    """Print a true minus, and no sign before a zero."""
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else "\N{MINUS SIGN}" + text[1:]
    return text


#: Text stays text (and is escaped); a Figure is right-aligned and sorts by value.
Cell = str | Figure


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
