"""Training images held out for validation, so that no test image is ever looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError


def hold_out(
    labels_N: NDArray[np.int64], per_class: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, and rows held out: the last `per_class` of each class in file order.

    Raises:
        UserError: a class has no image left to train on.
    """
    held_out_N = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        if len(rows) <= per_class:
            raise UserError(
                f"class {label} has {len(rows)} training images, but {per_class} are to be held "
                "out for validation: lower validation_per_class."
            )
        held_out_N[rows[-per_class:]] = True
    return np.flatnonzero(~held_out_N), np.flatnonzero(held_out_N)
