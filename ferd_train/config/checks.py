"""Bounds of a recipe's fields, said by their annotations: ``steps: Count = 400``.

A value out of bounds raises a `UserError` with the field, its value and the values it may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from ferd_eval.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Bound:
    """Numbers that a field may have; `wanted` is for the user, ``{}`` in it the field's name."""

    holds: Callable[[Any], bool]
    wanted: str

    def require(self, name: str, value: Any) -> None:
        if not self.holds(value):
            raise UserError(f"{name} is {value}; give {self.wanted.format(name)}.")


@dataclass(frozen=True, eq=False)
class OneOf:
    """Names that a field may have."""

    known: Mapping[str, Any] | tuple[str, ...]

    def require(self, name: str, value: Any) -> None:
        if value not in self.known:
            raise UserError(f"no {name} is called {value!r}.{did_you_mean(value, self.known)}")


def at_least(smallest: int) -> Bound:
    """Whole numbers from `smallest` on."""
    return Bound(lambda value: value >= smallest, f"{smallest} or more")


Count = Annotated[int, at_least(1)]
CountFromZero = Annotated[int, at_least(0)]
Seed = Annotated[int, Bound(lambda seed: 0 <= seed < 2**63, "0 or more, below 2**63")]
Share = Annotated[float, Bound(lambda value: 0 <= value < 1, "0 <= {} < 1")]
ShareOrAll = Annotated[float, Bound(lambda value: 0 <= value <= 1, "0 <= {} <= 1")]
# Single precision must hold them.
NotNegative = Annotated[float, Bound(lambda value: 0 <= value < 1e30, "0 <= {} < 1e30")]
Positive = Annotated[float, Bound(lambda value: 0 < value < 1e30, "0 < {} < 1e30")]


class Checked:
    """Base of dataclasses whose fields are checked against their annotations' bounds."""

    def __post_init__(self) -> None:
        kind: Any = type(self)  # mypy takes it for unhashable
        for name, bound in _bounds(kind):
            bound.require(name, getattr(self, name))


@cache
def _bounds(kind: object) -> list[tuple[str, Bound | OneOf]]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        (name, bound) for name, hint in hints.items() for bound in getattr(hint, "__metadata__", ())
    ]


def require_ordered(section: object, low: str, high: str) -> None:
    """Require of two numbers that the first is not above the second."""
    first, second = getattr(section, low), getattr(section, high)
    if first > second:
        raise UserError(f"{low} is {first} and {high} {second}; give {low} <= {high}.")
