"""Figures of K classes, from arrays to records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Record = TypeVar("Record")
_Column = NDArray[Any] | tuple[NDArray[np.float64], NDArray[np.float64]]


def by_class(
    kind: Callable[..., Record], names: Sequence[str], **columns: _Column
) -> tuple[Record, ...]:
    """A record for each class: its index, its name, and its entry of every column.

    A column has K numbers, or the lower and the upper ends of K intervals; NaN becomes None.
    """
    entries = {key: _entries(column) for key, column in columns.items()}
    return tuple(
        kind(index=k, name=name, **{key: column[k] for key, column in entries.items()})
        for k, name in enumerate(names)
    )


def _entries(column: _Column) -> list[Any]:
    if isinstance(column, tuple):
        ends = zip(*map(_entries, column), strict=True)
        return [None if None in pair else pair for pair in ends]
    return [finite(each) if isinstance(each, float) else each for each in column.tolist()]


def finite(value: float) -> float | None:
    """A plain float, or None where there is no value (JSON has no NaN)."""
    return float(value) if np.isfinite(value) else None
