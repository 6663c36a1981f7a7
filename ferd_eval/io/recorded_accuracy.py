"""Clean accuracies that a checkpoint records of itself, told from all else that is called so.

Training scripts leave figures beside the weights: ``nature_acc`` (RSLAD), ``test_acc`` and
``test_robust_acc`` (robust_overfitting), ``best_prec1`` (akamaster), ``acc`` (kuangliu),
``best_acc1`` (PyTorch's ImageNet example); as a share or in percent, as a number or as text. A name
counts only if every word of it is known, so that accuracies under attack, of training images or of
something else never do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9 _./@-]{1,60}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

_ACCURACY = {"acc", "accuracy"}
_TOP = {"prec", "top", "acc"}  # followed by 1; top-5 is another figure
_CLEAN = {"clean", "nat", "natural", "nature", "standard", "std", "benign"}
_TEST = {"test", "testing", "eval", "evaluation"}
_NO_MORE = {"best", "final", "last", "max", "val", "valid", "validation"}


def recorded_accuracies(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Name → share for every clean accuracy among the plain values in a file.

    Nothing is taken from 0, which is what a script writes before it has measured anything.
    """
    return {
        key: share
        for key, value in metadata.items()
        if is_accuracy(key) and (share := _share(value)) is not None
    }


def is_accuracy(name: str) -> bool:
    """Whether `name` means the share of right predictions without an attack or training images."""
    words = _words(name)
    counted = bool(_ACCURACY & {*words}) or _says_top_1(words)
    named_clean = bool({*words} & (_CLEAN - {"std"})) and bool({*words} & (_TEST | _NO_MORE))
    known = _ACCURACY | _TOP | _CLEAN | _TEST | _NO_MORE | {"1"}
    ones = words.count("1")
    return (counted or named_clean) and {*words} <= known and ones == _says_top_1(words)


def says_clean_test(name: str) -> bool:
    """Whether an accuracy's name tells that it is of clean or of test images.

    ``best_acc`` of robust training may be the accuracy under its own attack.
    """
    return not (_CLEAN | _TEST).isdisjoint(_words(name))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)] if _NAME.fullmatch(name) else []


def _says_top_1(words: list[str]) -> bool:
    return any(a in _TOP and b == "1" for a, b in pairwise(words))


def _share(value: Any) -> float | None:
    """A share in (0, 1] from a share or a percentage; None for what is neither."""
    percent = isinstance(value, str) and value.strip().endswith("%")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value.strip().rstrip("%") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or not 0 < number <= 100:
        return None
    return number / 100 if percent or number > 1 else number
