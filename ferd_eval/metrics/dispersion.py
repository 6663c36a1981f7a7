"""How unevenly a set of classes is served: one number from ``accuracy_K``.

Every function ignores NaN (a class without images) and returns NaN where the figure has no value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shares(count: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """``count`` ÷ ``n``, of equal shape; NaN where n is 0."""
    count, n = np.asarray(count), np.asarray(n)
    share: NDArray[np.float64] = np.divide(count, n, out=np.full(n.shape, np.nan), where=n > 0)
    return share


def normalised_sd(values_K: ArrayLike, ddof: int = 0) -> float:
    """NSD: standard deviation over classes divided by their mean; NaN where the mean is 0."""
    present = _present(values_K)
    if present.size == 0 or present.mean() == 0:
        return float("nan")
    return standard_deviation(present, ddof) / float(present.mean())


def standard_deviation(values_K: ArrayLike, ddof: int = 0) -> float:
    """Standard deviation over classes; NaN where ``ddof`` leaves no degree of freedom."""
    present = _present(values_K)
    return float(present.std(ddof=ddof)) if present.size > ddof else float("nan")


def gap(values_K: ArrayLike) -> float:
    """Highest minus lowest class."""
    present = _present(values_K)
    return float(np.ptp(present)) if present.size else float("nan")


def gini(values_K: ArrayLike) -> float:
    """Gini coefficient: 0 when all are equal, (K − 1)/K when one has everything; NaN if all are 0.

    Half the relative mean absolute difference, over all K² ordered pairs.
    """
    ordered = np.sort(_present(values_K))
    total = ordered.sum()
    if ordered.size == 0 or total == 0:
        return float("nan")
    ranks = np.arange(1, ordered.size + 1)
    return float((2 * ranks - ordered.size - 1) @ ordered / (ordered.size * total))


def lowest_percent(values_K: ArrayLike, percent: int = 10) -> float:
    """Mean of the lowest ⌈percent · C / 100⌉ of the C classes that have images."""
    present = _present(values_K)
    if present.size == 0:
        return float("nan")
    count = -(-percent * present.size // 100)
    return float(np.sort(present)[:count].mean())


def _present(values_K: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values_K, dtype=float)
    present: NDArray[np.float64] = values[~np.isnan(values)]
    return present


def debiased_sd(correct_K: ArrayLike, n_K: ArrayLike) -> NDArray[np.float64]:
    """Standard deviation over classes less what sampling adds to it; never below 0.

    Of the between-class variance (ddof 0) the share that C classes of equal accuracy would show
    from binomial noise alone is taken off: (1 − 1/C) · mean p̂(1 − p̂)/(n − 1). NaN where a class has
    a single image, whose noise cannot be told. Axes of `correct_K` before its last are kept.
    """
    variance = debiased_variance(correct_K, n_K)
    return np.sqrt(np.where(variance < 0, 0.0, variance))


def debiased_nsd(correct_K: ArrayLike, n_K: ArrayLike) -> NDArray[np.float64]:
    """`debiased_sd` divided by the mean over classes; NaN where the mean is 0."""
    correct, n = np.asarray(correct_K, dtype=float), np.asarray(n_K, dtype=float)
    if not (n > 0).any():
        return np.full(correct.shape[:-1], np.nan)
    mean = (correct[..., n > 0] / n[n > 0]).mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        nsd: NDArray[np.float64] = np.where(mean > 0, debiased_sd(correct, n) / mean, np.nan)
    return nsd


def debiased_variance(correct_K: ArrayLike, n_K: ArrayLike) -> NDArray[np.float64]:
    """Unbiased estimate of the variance of the true accuracies (ddof 0); may be below 0."""
    correct, n = np.asarray(correct_K, dtype=float), np.asarray(n_K, dtype=float)
    correct, n = correct[..., n > 0], n[n > 0]
    if n.size == 0 or (n < 2).any():
        return np.full(correct.shape[:-1], np.nan)
    p = correct / n
    noise = (1 - 1 / n.size) * (p * (1 - p) / (n - 1)).mean(axis=-1)
    variance: NDArray[np.float64] = p.var(axis=-1) - noise
    return variance
