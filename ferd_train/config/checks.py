"""Checks of fields. Each raises a `UserError` with the field, its value and what to give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ferd_eval.errors import UserError, did_you_mean


def require_at_least(section: object, smallest: int, *names: str) -> None:
    """Whole numbers from `smallest` on."""
    _require(section, names, lambda value: value >= smallest, f"{smallest} or more")


def require_share(section: object, *names: str) -> None:
    """Numbers in [0, 1)."""
    _require(section, names, lambda value: 0 <= value < 1, "0 <= {} < 1")


def require_not_negative(section: object, *names: str) -> None:
    """Numbers from 0 on that single precision can hold."""
    _require(section, names, lambda value: 0 <= value < 1e30, "0 <= {} < 1e30")


def require_positive(section: object, *names: str) -> None:
    """Numbers above 0 that single precision can hold."""
    _require(section, names, lambda value: 0 < value < 1e30, "0 < {} < 1e30")


def require_ordered(section: object, low: str, high: str) -> None:
    """Two numbers from 0 on, the first not above the second."""
    require_not_negative(section, low, high)
    first, second = getattr(section, low), getattr(section, high)
    if first > second:
        raise UserError(f"{low} is {first} and {high} {second}; give {low} <= {high}.")


def require_seed(section: object) -> None:
    """A seed that torch takes."""
    _require(section, ("seed",), lambda seed: 0 <= seed < 2**63, "0 or more, below 2**63")


def require_one_of(section: object, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    """A known name."""
    value = getattr(section, name)
    if value not in known:
        raise UserError(f"no {name} is called {value!r}.{did_you_mean(value, known)}")


def _require(
    section: object, names: tuple[str, ...], is_right: Callable[[Any], bool], wanted: str
) -> None:
    for name in names:
        if not is_right(value := getattr(section, name)):
            raise UserError(f"{name} is {value}; give {wanted.format(name)}.")
