"""How often an attack that aims at a class reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ferd_eval.metrics.confusion.matrix import Pair, confusion_matrix, finite, highest_pair
from ferd_eval.metrics.dispersion import gini, shares


@dataclass(frozen=True)
class Aimed:
    """Attempts from, or at, one class and the share that reached its target."""

    index: int
    name: str
    n: int
    success: float | None


@dataclass(frozen=True, eq=False)
class TargetedSuccess:
    """Success of a targeted attack, a prediction of the very class aimed at.

    Attributes:
        success: K × K rates, rows true classes, columns the class aimed at; NaN where none was
            aimed (null in JSON).
        attempts: K × K number of images in each cell.
        gini: over the success rates by target.
        worst_pair: the most successful cell, the lowest indices among equals.
    """

    success: NDArray[np.float64]
    attempts: NDArray[np.int64]
    by_target: tuple[Aimed, ...]
    by_source: tuple[Aimed, ...]
    gini: float | None
    worst_pair: Pair | None


def targeted_success(
    labels_N: ArrayLike, targets_N: ArrayLike, predictions_N: ArrayLike, names: Sequence[str]
) -> TargetedSuccess:
    """Success by source, by target and by pair; one row per (image, target) attempt."""
    labels, aims = np.asarray(labels_N), np.asarray(targets_N)
    reached = np.asarray(predictions_N) == aims
    K = len(names)
    attempts_KK = confusion_matrix(labels, aims, K)
    hits_KK = confusion_matrix(labels[reached], aims[reached], K)
    by_target_K = shares(hits_KK.sum(axis=0), attempts_KK.sum(axis=0))
    by_source_K = shares(hits_KK.sum(axis=1), attempts_KK.sum(axis=1))
    success_KK = shares(hits_KK, attempts_KK)
    return TargetedSuccess(
        success=success_KK,
        attempts=attempts_KK,
        by_target=_aimed(names, attempts_KK.sum(axis=0), by_target_K),
        by_source=_aimed(names, attempts_KK.sum(axis=1), by_source_K),
        gini=finite(gini(by_target_K)),
        worst_pair=highest_pair(success_KK, hits_KK, names) if hits_KK.any() else None,
    )


def _aimed(
    names: Sequence[str], n_K: NDArray[np.int64], success_K: NDArray[np.float64]
) -> tuple[Aimed, ...]:
    return tuple(Aimed(i, name, int(n_K[i]), finite(success_K[i])) for i, name in enumerate(names))
