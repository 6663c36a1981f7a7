"""The confusion matrix, and the figures of each class that follow from it.

Rows are true classes (sources), columns predictions (targets). The diagonal is not an error and
enters no figure here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ferd_eval.metrics.dispersion import gini
from ferd_eval.metrics.per_class import by_class, finite


@dataclass(frozen=True)
class SourceErrors:
    """The errors on images of one class."""

    index: int
    name: str
    errors: int
    #: H / log(K − 1) of where they go, plug-in estimate: 1 is spread evenly, 0 is one target. None
    #: without errors or where K < 3.
    entropy: float | None
    entropy_corrected: float | None  #: the same after Miller & Madow (1955), clipped to [0, 1]
    top_target: int | None  #: the most frequent wrong prediction, the lowest index among equals
    top_share: float | None  #: its share of this class's errors


@dataclass(frozen=True)
class TargetErrors:
    """The errors that end in one class."""

    index: int
    name: str
    errors: int
    share: float | None  #: of all errors
    false_positive_rate: float | None  #: errors that end here ÷ images of all other classes


@dataclass(frozen=True)
class Pair:
    """A (source → target) cell: ``rate`` is ``count`` ÷ images of the source class."""

    source: int
    source_name: str
    target: int
    target_name: str
    count: int
    rate: float


@dataclass(frozen=True)
class ErrorPattern:
    """What a confusion matrix says beyond accuracy."""

    errors: int
    sources: tuple[SourceErrors, ...]
    targets: tuple[TargetErrors, ...]
    gini: float | None  #: over the number of errors that end in each class
    worst_pair: Pair | None  #: highest rate, lowest indices among equals; None without errors


def confusion_matrix(
    labels_N: ArrayLike, predictions_N: ArrayLike, num_classes: int
) -> NDArray[np.int64]:
    """Counts, K × K: rows true classes, columns predictions."""
    cells = np.asarray(labels_N, dtype=np.int64) * num_classes + np.asarray(predictions_N)
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def error_pattern(counts_KK: NDArray[np.int64], names: Sequence[str]) -> ErrorPattern:
    """Summarise the off-diagonal part of a confusion matrix."""
    n_K = counts_KK.sum(axis=1)
    errors_KK = counts_KK.copy()
    np.fill_diagonal(errors_KK, 0)
    by_source_K, by_target_K = errors_KK.sum(axis=1), errors_KK.sum(axis=0)
    total = int(errors_KK.sum())
    raw_K, corrected_K = normalised_entropy(errors_KK)
    others_K = n_K.sum() - n_K
    with np.errstate(invalid="ignore", divide="ignore"):
        top_share_K = errors_KK.max(axis=1) / by_source_K
        share_K = by_target_K / total
        false_positive_rate_K = by_target_K / others_K
        rate_KK = errors_KK / n_K[:, None]
    return ErrorPattern(
        errors=total,
        sources=by_class(
            SourceErrors,
            names,
            errors=by_source_K,
            entropy=raw_K,
            entropy_corrected=corrected_K,
            top_target=np.ma.masked_where(by_source_K == 0, errors_KK.argmax(axis=1)),
            top_share=top_share_K,
        ),
        targets=by_class(
            TargetErrors,
            names,
            errors=by_target_K,
            share=share_K,
            false_positive_rate=false_positive_rate_K,
        ),
        gini=finite(gini(by_target_K)),
        worst_pair=highest_pair(rate_KK, errors_KK, names) if total else None,
    )


def normalised_entropy(
    errors_KK: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Entropy of each row ÷ log(K − 1), plug-in and Miller–Madow corrected (clipped to [0, 1]).

    The correction adds (m − 1) / 2N nats, with m the number of targets seen and N the errors.
    NaN for rows without errors, and for K < 3, where an error has nowhere to choose.
    """
    K = len(errors_KK)
    if K < 3:
        return np.full(K, np.nan), np.full(K, np.nan)
    N_K = errors_KK.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_KK = errors_KK / N_K[:, None]
        nats_K = -np.where(p_KK > 0, p_KK * np.log(p_KK), 0.0).sum(axis=1)
        nats_K = np.where(N_K > 0, np.maximum(nats_K, 0.0), np.nan)
        correction_K = ((errors_KK > 0).sum(axis=1) - 1) / (2 * N_K)
    raw_K = nats_K / np.log(K - 1)
    return np.clip(raw_K, 0, 1), np.clip(raw_K + correction_K / np.log(K - 1), 0, 1)


def highest_pair(
    rate_KK: NDArray[np.float64], counts_KK: NDArray[np.int64], names: Sequence[str]
) -> Pair | None:
    """Return the off-diagonal cell of the highest rate, the lowest indices among equals."""
    rate_KK = np.where(np.eye(len(names), dtype=bool) | np.isnan(rate_KK), -1.0, rate_KK)
    source, target = (int(i) for i in np.unravel_index(int(rate_KK.argmax()), rate_KK.shape))
    if rate_KK[source, target] < 0:
        return None
    return Pair(
        source=source,
        source_name=names[source],
        target=target,
        target_name=names[target],
        count=int(counts_KK[source, target]),
        rate=float(rate_KK[source, target]),
    )
