"""What is varied, and the values of each trial.

Random search (Bergstra and Bengio, *Random Search for Hyper-Parameter Optimization*, JMLR 13,
2012): independent draws, so that a budget can be raised later without starting again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_type_hints

from ferd_eval.errors import UserError
from ferd_eval.io.epsilon import exact
from ferd_train.config.recipe import Recipe, flat
from ferd_train.training.seeds import Randomness

#: Ends of a range whose quotient is at least this are drawn between by their logarithms.
_WIDE = 10

#: Digits of a number drawn: no constant is known better.
_DIGITS = 4

#: Fields that trials are made alike or judged by; better figures by another would be no merit.
_FIXED = ("seed", "eps", "image_size")
_JUDGES = "validation."


@dataclass(frozen=True)
class Choices:
    """Some values, each as likely."""

    values: tuple[str, ...]

    def at(self, share: float) -> str:
        """The value at 0 ≤ share < 1 of them all."""
        return self.values[int(share * len(self.values))]

    def to_json(self) -> dict[str, Any]:
        return {"choices": list(self.values)}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both positive if `is_log`; whole ones if `is_whole`."""

    low: float
    high: float
    is_whole: bool

    @property
    def is_log(self) -> bool:
        """Whether they are uniform in their logarithms."""
        return self.low > 0 and self.high / self.low >= _WIDE

    def at(self, share: float) -> float:
        """The number below which `share` of all draws lie, 0 ≤ share < 1."""
        # Every whole number stands for the interval up to the next one.
        high = self.high + 1 if self.is_whole else self.high
        if self.is_log:
            drawn = self.low * (high / self.low) ** share
        else:
            drawn = self.low + share * (high - self.low)
        drawn = math.floor(drawn) if self.is_whole else float(f"{drawn:.{_DIGITS}g}")
        return min(max(drawn, self.low), self.high)  # rounding may have left the range

    def to_json(self) -> dict[str, Any]:
        scale = "log-uniform" if self.is_log else "uniform"
        return {"low": self.low, "high": self.high, "scale": scale, "whole": self.is_whole}


Space = Mapping[str, Choices | Range]


def parse_space(texts: Sequence[str], recipe: Recipe) -> Space:
    """Read ``NAME=LOW..HIGH`` and ``NAME=a,b,c``; names are fields of the recipe.

    Raises:
        UserError: one is neither, is no field, or may not be varied.
    """
    space: dict[str, Choices | Range] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UserError(
                f"--vary {text} is not NAME=LOW..HIGH or NAME=a,b,c, e.g. "
                "distillation.lr=0.02..0.5."
            )
        if name not in flat(recipe):
            recipe.with_changes({name: values})  # says what is alike
        if name in _FIXED or name.startswith(_JUDGES):
            raise UserError(
                f"--vary {name}: trials are compared by it, so all have the same; set it by "
                f"--set {name}=VALUE."
            )
        if name in space:
            raise UserError(f"--vary names {name} twice; give it once.")
        space[name] = _values(name, values, _kind(recipe, name))
    if not space:
        raise UserError("nothing varies; give --vary NAME=LOW..HIGH or --vary NAME=a,b,c.")
    return space


def draw(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """Values of a trial, by name; trial 0 has none. They depend on these arguments alone.

    Each name has a draw of its own, so that another one beside it changes nothing.
    """
    if trial == 0:
        return {}
    numbers = Randomness(seed, trial)
    return {
        # Less precise than the integer, whose nearest float may be the whole.
        name: values.at(min(numbers.seed(f"tune {name}") / 2**63, 1 - 2**-53))
        for name, values in space.items()
    }


def _kind(recipe: Recipe, name: str) -> Any:
    """Type of a field, without its bounds."""
    section: object = recipe
    *path, last = name.split(".")
    for each in path:
        section = getattr(section, each)
    return get_type_hints(type(section))[last]


#: How an end of a range is read, and called in messages.
_NUMBERS: Mapping[type, tuple[str, Callable[[str], float]]] = {
    int: ("whole numbers", int),
    float: ("numbers", float),
    Fraction: ("numbers or fractions", lambda text: float(_fraction(text))),
}


def _fraction(text: str) -> Fraction:
    """``8/255`` or ``0.1``; a ValueError or ZeroDivisionError if it is neither."""
    numerator, _, denominator = text.partition("/")
    return exact(numerator.strip()) / exact(denominator.strip() or "1")


def _values(name: str, text: str, kind: type) -> Choices | Range:
    low, dots, high = text.partition("..")
    if kind in _NUMBERS and dots:
        wanted, read = _NUMBERS[kind]
        try:
            ends = read(low), read(high)
        except (ValueError, ZeroDivisionError):
            ends = math.nan, math.nan
        if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
            raise UserError(f"--vary {name}={text}: give {wanted} LOW..HIGH with LOW < HIGH.")
        return Range(*ends, is_whole=kind is int)
    choices = tuple(word.strip() for word in text.split(","))
    if len(choices) < 2 or len({*choices}) < len(choices) or "" in choices:
        ranges = f" or {name}=LOW..HIGH" if kind in _NUMBERS else ""
        raise UserError(
            f"--vary {name}={text}: give several values, each once, {name}=a,b,c{ranges}; one "
            "alone is set by --set."
        )
    return Choices(choices)
