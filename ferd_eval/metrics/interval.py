"""Binomial confidence limits, vectorised over classes.

``correct`` and ``n`` are counts of equal shape; a class without images gets NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri


def wilson(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided Wilson score interval of a proportion (Wilson 1927, no continuity correction).

    Returns:
        Lower and upper ends as fractions; 0 exactly without a success, 1 exactly without a
        failure.
    """
    k, n = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    z = float(ndtri((1 + confidence) / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low = np.where((k == 0) & (n > 0), 0.0, centre - half)
    high = np.where((k == n) & (n > 0), 1.0, centre + half)
    return low, high


def clopper_pearson_upper(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> NDArray[np.float64]:
    """One-sided exact upper limit of a proportion (Clopper & Pearson 1934), 1 without a failure."""
    k, n = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    return 1 - clopper_pearson_lower(n - k, n, confidence)


def simultaneous(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided exact intervals that hold for all classes at once (Clopper–Pearson, Bonferroni).

    Classes without images are not counted among those to correct for.
    """
    each = 1 - (1 - confidence) / (2 * max(int(np.count_nonzero(n)), 1))
    return clopper_pearson_lower(correct, n, each), clopper_pearson_upper(correct, n, each)


def clopper_pearson_lower(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> NDArray[np.float64]:
    """One-sided exact lower limit of a proportion (Clopper & Pearson 1934), 0 below no success."""
    k, n = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    limit = betaincinv(np.maximum(k, 1), np.maximum(n - k, 0) + 1, 1 - confidence)
    return np.where(n == 0, np.nan, np.where(k == 0, 0.0, limit))
