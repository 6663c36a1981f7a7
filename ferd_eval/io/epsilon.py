"""Perturbation sizes as exact fractions: ``8/255`` stays 8/255, and ε/4 of it is 2/255."""

from __future__ import annotations

import re
from fractions import Fraction

from ferd_eval.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)


def parse_quantity(text: str | float | Fraction, what: str) -> Fraction:
    """Read ``"8/255"``, ``"0.031"`` or a number as an exact fraction.

    A decimal string is taken at face value (``"0.1"`` is 1/10). UserError: it is no number, or not
    in (0, 1]; the message calls it `what`, e.g. ``"--eps"``.
    """
    try:
        numerator, _, denominator = str(text).replace(" ", "").partition("/")
        value = exact(numerator) / exact(denominator or "1")
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"{what} is {str(text)[:60]!r}, which is no number. Write it as 8/255 or 0.031."
        ) from None
    if not 0 < value <= 1 or float(value) == 0:
        hint = f" For pixels from 0 to 255 write {text}/255." if value > 1 else ""
        raise UserError(f"{what} is {text}, but pixels are in [0, 1]: give 0 < {what} <= 1.{hint}")
    return value


def exact(text: str) -> Fraction:
    """A number at face value.

    ValueError: it is none, or one of thousands of digits: ``1e999999999`` would take for ever.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError(text[:60])
    return Fraction(text)


def format_quantity(value: Fraction) -> str:
    """Write a fraction as people do: ``0.1`` where that is exact and short, else ``8/255``."""
    for digits in range(5):
        if (value * 10**digits).denominator == 1:
            return f"{float(value):.{digits}f}"
    in_255ths = value * 255
    for digits in range(4):
        if (in_255ths * 10**digits).denominator == 1:
            return f"{float(in_255ths):.{digits}f}/255"
    return f"{float(value):.6g}"
