"""Binomial confidence limits, vectorised over classes.

``correct`` and ``n`` are counts of equal shape; a class without images gets NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammaln, ndtri


def wilson(
    correct: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided Wilson score interval of a proportion (Wilson 1927, no continuity correction).

    Lower and upper ends as fractions; 0 exactly without a success, 1 exactly without a failure.
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


Interval = tuple[float, float]


def worst_class_interval(
    correct_K: ArrayLike, n_K: ArrayLike, confidence: float = 0.95
) -> Interval | None:
    """Two-sided interval of the lowest true class accuracy; None without an image.

    No class is lower than the lowest lower limit, and the lowest is no higher than any upper limit.
    """
    correct, n = _present(correct_K, n_K)
    if not n.size:
        return None
    side = (1 - confidence) / 2
    low = clopper_pearson_lower(correct, n, 1 - side).min()
    high = clopper_pearson_upper(correct, n, 1 - side / n.size).min()
    return float(low), float(high)


def lowest_percent_interval(
    correct_K: ArrayLike, n_K: ArrayLike, percent: int = 10, confidence: float = 0.95
) -> Interval | None:
    """Two-sided interval of the mean of the k = ⌈percent · C / 100⌉ lowest true accuracies.

    Below: with as many images in each class, the limit of the k lowest observed classes pooled; the
    k that truly are lowest have no fewer successes, so it fails only if theirs does. With unequal
    classes, the mean of the k lowest limits, each at 1/k of the level. Above: the mean of the k
    lowest of limits that hold at once.
    """
    correct, n = _present(correct_K, n_K)
    if not n.size:
        return None
    k, side = -(-percent * n.size // 100), (1 - confidence) / 2
    if (n == n[0]).all():
        low = _pooled_lower(float(np.sort(correct)[:k].sum()), float(n[0]), k, side)
    else:
        low = np.sort(clopper_pearson_lower(correct, n, 1 - side / k))[:k].mean()
    high = np.sort(clopper_pearson_upper(correct, n, 1 - side / n.size))[:k].mean()
    return float(low), float(high)


def _pooled_lower(correct: float, n: float, k: int, side: float) -> float:
    """Lower limit of the mean of k shares, of which n images each gave ``correct`` in all.

    A sum of binomials of several shares is less spread than a binomial of their mean, so at least
    t successes are no more likely where t exceeds their expected number by 1 or more (Hoeffding
    1956, Theorem 4). A limit rests on a smaller t only where a single success is unlikely already;
    that has at most the probability k · n · mean.
    """
    limit = float(clopper_pearson_lower(correct, k * n, 1 - side))
    return min(limit, side / (k * n)) if k > 1 and correct == 1 else limit


def gap_interval(correct_K: ArrayLike, n_K: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Two-sided interval of highest − lowest true accuracy.

    Above: the highest upper less the lowest lower limit, unadjusted for classes. Below: the largest
    difference between a lower and an upper limit that hold at once, 0 where none is positive.
    """
    correct, n = _present(correct_K, n_K)
    if not n.size:
        return None
    half = (1 - confidence) / 4
    high = (
        clopper_pearson_upper(correct, n, 1 - half).max()
        - clopper_pearson_lower(correct, n, 1 - half).min()
    )
    at_once = 1 - half / n.size
    low = (
        clopper_pearson_lower(correct, n, at_once).max()
        - clopper_pearson_upper(correct, n, at_once).min()
    )
    return max(float(low), 0.0), float(high) if n.size > 1 else 0.0


def possibly_worst(
    correct_K: ArrayLike, n_K: ArrayLike, confidence: float = 0.95
) -> NDArray[np.int64]:
    """The classes that cannot be excluded as the one of the lowest true accuracy.

    Indices in increasing order of accuracy; empty without an image. A class is excluded if Fisher's
    exact test finds some other class lower at (1 − confidence) / (C − 1). The class that truly is
    lowest would be excluded by one of its C − 1 true null hypotheses only, so the set holds it with
    at least the confidence asked for.
    """
    correct, n = np.asarray(correct_K, dtype=np.int64), np.asarray(n_K, dtype=np.int64)
    present = np.flatnonzero(n)
    level = (1 - confidence) / max(present.size - 1, 1)
    # Of the classes with as many images the one with the fewest successes has the smallest p.
    n_J = np.unique(n[present])
    fewest_J = np.array([correct[n == images].min() for images in n_J], dtype=np.int64)
    lowest_first_J = np.argsort(fewest_J / n_J)

    def excluded(i: np.int64) -> bool:
        lower = lowest_first_J[(fewest_J * n[i] < correct[i] * n_J)[lowest_first_J]]
        # The very lowest mostly settle it; for classes that are not lower p is at least 1/2.
        return any(
            (_higher_p(correct[i], n[i], fewest_J[some], n_J[some]) <= level).any()
            for some in np.split(lower, [4])
        )

    kept = [i for i in present if not excluded(i)]
    return np.array(sorted(kept, key=lambda i: (correct[i] / n[i], i)), dtype=np.int64)


def _higher_p(k: int, n: int, others_J: ArrayLike, n_J: ArrayLike) -> NDArray[np.float64]:
    """Fisher's one-sided p-values that a share k/n is no higher than each of J others.

    The hypergeometric probability of k successes or more of n, given the total.
    """
    total_J1 = (k + np.asarray(others_J))[:, None]
    hits_JH = hypergeometric(np.arange(k, n + 1), total_J1, n, n + np.asarray(n_J)[:, None])
    p: NDArray[np.float64] = hits_JH.sum(axis=1)
    return p


def hypergeometric(
    hits: ArrayLike, drawn: ArrayLike, marked: ArrayLike, total: ArrayLike
) -> NDArray[np.float64]:
    """Probability of so many marked among those drawn, without replacement; shapes broadcast.

    By hand: scipy.stats takes longer to import than a scorecard takes to compute.
    """
    hits, drawn, marked, total = map(np.asarray, (hits, drawn, marked, total))
    log = _log_choose(marked, hits) + _log_choose(total - marked, drawn - hits)
    p: NDArray[np.float64] = np.exp(log - _log_choose(total, drawn))
    return p


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of the binomial coefficient, −∞ where it is 0."""
    inside = (k >= 0) & (k <= n)
    k = np.where(inside, k, 0)
    log: NDArray[np.float64] = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.where(inside, log, -np.inf)


def _present(
    correct_K: ArrayLike, n_K: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    correct, n = np.asarray(correct_K, dtype=float), np.asarray(n_K, dtype=float)
    return correct[n > 0], n[n > 0]
