"""How unevenly a set of classes is served: one number from ``accuracy_K``.

Every function ignores NaN (a class without images) and returns NaN where the figure has no value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


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


def debiased_sd(correct_K: ArrayLike, n_K: ArrayLike) -> float:
    """Standard deviation over classes less what sampling adds to it; never below 0.

    Of the between-class variance (ddof 0) the share that C classes of equal accuracy would show
    from binomial noise alone is taken off: (1 − 1/C) · mean p̂(1 − p̂)/(n − 1). NaN where a class has
    a single image, whose noise cannot be told.
    """
    variance = debiased_variance(correct_K, n_K)
    return float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else float("nan")


def debiased_nsd(correct_K: ArrayLike, n_K: ArrayLike) -> float:
    """`debiased_sd` divided by the mean over classes; NaN where the mean is 0."""
    correct, n = np.asarray(correct_K, dtype=float), np.asarray(n_K, dtype=float)
    mean = float((correct[n > 0] / n[n > 0]).mean()) if (n > 0).any() else 0.0
    return debiased_sd(correct_K, n_K) / mean if mean > 0 else float("nan")


def debiased_variance(correct_K: ArrayLike, n_K: ArrayLike) -> float:
    """Unbiased estimate of the variance of the true accuracies (ddof 0); may be below 0."""
    correct, n = np.asarray(correct_K, dtype=float), np.asarray(n_K, dtype=float)
    correct, n = correct[n > 0], n[n > 0]
    if n.size == 0 or (n < 2).any():
        return float("nan")
    p = correct / n
    return float(p.var() - (1 - 1 / n.size) * (p * (1 - p) / (n - 1)).mean())
