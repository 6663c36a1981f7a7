"""How often an attack that aims at a class reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ferd_eval.metrics.confusion.matrix import Pair, confusion_matrix, highest_pair
from ferd_eval.metrics.dispersion import gini, shares
from ferd_eval.metrics.per_class import by_class, finite


@dataclass(frozen=True)
class Aimed:
    """Attempts from, or at, one class and the share that reached its target."""

    index: int
    name: str
    n: int
    success: float | None


@dataclass(frozen=True, eq=False)
class TargetedSuccess:
    """Success of a targeted attack, a prediction of the very class aimed at."""

    #: K × K rates, rows true classes, columns the class aimed at; NaN where none was aimed (null in
    #: JSON).
    success: NDArray[np.float64]
    attempts: NDArray[np.int64]  #: K × K number of images in each cell
    by_target: tuple[Aimed, ...]
    by_source: tuple[Aimed, ...]
    gini: float | None  #: over the success rates by target
    worst_pair: Pair | None  #: the most successful cell, the lowest indices among equals


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
        by_target=by_class(Aimed, names, n=attempts_KK.sum(axis=0), success=by_target_K),
        by_source=by_class(Aimed, names, n=attempts_KK.sum(axis=1), success=by_source_K),
        gini=finite(gini(by_target_K)),
        worst_pair=highest_pair(success_KK, hits_KK, names) if hits_KK.any() else None,
    )
