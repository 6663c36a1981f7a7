"""Differences between two networks on the same images: average, lowest classes, spread.

Everything is a function of counts by class, fold, and who is right: ``counts_KF22[c, f, a, b]`` is
the number of images of class c in fold f on which the first is right (a = 1) or wrong (a = 0), and
the second is (b). K classes, F folds. Differences are second − first. Classes without images are
left out.

**The lowest classes.** The lowest observed accuracy is biased downwards, the more so the more
classes are nearly lowest, and resampling repeats the bias. W is the mean of the k lowest true
accuracies, and T any k classes:

- W ≤ the mean accuracy of T. Judged on the images of one fold and chosen on the folds before it,
  T gives an estimate that is not too low on average and whose parts are uncorrelated (the online
  estimator of Luedtke & van der Laan 2016, Ann. Stat. 44:713), as sharp as on the judged images
  alone where the lowest classes stand out.
- A limit below the lower limit of *every* T is below W: no correction (intersection–union, Berger
  1982).

The lower end of W_second − W_first takes the first for T's mean and the second for every T, the
upper end the reverse. Variances are those of the images given the choices, paired within classes,
half an image added to each cell (Agresti & Min 2005, Biometrics 61:515).

**Spread.** The variance over classes is estimated without bias (`debiased_variance`); how much that
estimate varies grows with what it estimates, so each limit is the value whose own variance just
reaches the estimate, as in Wilson's interval (with the variance at the estimate, differences cover
as little as 91 %). Limits of its root, and of the root's ratio to the mean, are joined as for a
difference of correlated estimates (Zou & Donner 2008, Stat. Med. 27:1693). Where a side's classes
may all be equal the root is not smooth, and the limits are added up instead: wide, but they hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ferd_eval.metrics.dispersion import debiased_variance

#: Parts of each class: the first `BURN` only choose the lowest classes, each other is judged by the
#: choice of all before it.
FOLDS, BURN = 10, 2

#: Two-sided 95 %.
_Z = float(ndtri(0.975))

#: What a difference must be for the interval to leave out 0 in four of five repetitions.
_POWER = float(ndtri(0.8))


@dataclass(frozen=True)
class Delta:
    """A difference of two figures, second − first."""

    first: float | None = None
    second: float | None = None
    value: float | None = None
    #: Two-sided; None where it cannot be told: for the lowest classes where one has fewer than
    #: `FOLDS` images, for spread where one has fewer than 2, over seeds where an accuracy is
    #: `stuck` and never varies.
    interval95: tuple[float, float] | None = None
    #: The smallest true difference that such an interval would tell from 0 with probability 0.8;
    #: None as above, and where an accuracy is `stuck`.
    detectable: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether both sides are at the same end of the scale, where no difference can show."""
        return self.first == self.second and self.first in (0.0, 1.0)

    @property
    def above_zero(self) -> bool:
        """Whether the second is shown to be higher."""
        return self.interval95 is not None and self.interval95[0] > 0

    @property
    def below_zero(self) -> bool:
        """Whether the second is shown to be lower."""
        return self.interval95 is not None and self.interval95[1] < 0


def detectable(low: float, high: float) -> float:
    """The smallest true difference that an interval as wide would tell from 0, see `Delta`."""
    return (_Z + _POWER) * (high - low) / (2 * _Z)


def of_accuracies(delta: Delta) -> Delta:
    """A difference of accuracies: within [−1, 1], and none to be detected where they are stuck."""
    if delta.interval95 is None or delta.detectable is None:
        return delta
    low, high = delta.interval95
    known = 0 < delta.detectable < 1 and not delta.stuck
    return replace(
        delta,
        interval95=None if delta.stuck and low == high else (max(low, -1.0), min(high, 1.0)),
        detectable=delta.detectable if known else None,
    )


def lowest_delta(counts_KF22: NDArray[np.int64], k: int) -> Delta:
    """Difference in the mean of the k lowest classes."""
    counts = counts_KF22[counts_KF22.sum(axis=(1, 2, 3)) > 0]
    n_K = counts.sum(axis=(1, 2, 3))
    if not n_K.size:
        return Delta()
    first, second = (
        float(np.sort(right_K / n_K)[:k].mean())
        for right_K in (counts[:, :, 1].sum(axis=(1, 2)), counts[:, :, :, 1].sum(axis=(1, 2)))
    )
    value = second - first
    if (counts.sum(axis=(2, 3)) == 0).any():
        return Delta(first, second, value)
    low = _lower_end(counts, k)
    high = -_lower_end(counts.swapaxes(2, 3), k)
    return of_accuracies(
        Delta(first, second, value, (min(low, value), max(high, value)), detectable(low, high))
    )


def _lower_end(counts_KF22: NDArray[np.int64], k: int) -> float:
    """Lower end of W_second − W_first."""
    n_KF = counts_KF22.sum(axis=(2, 3))
    n_K = n_KF.sum(axis=1)
    first_KF = counts_KF22[:, :, 1].sum(axis=2)
    weight_KF = _held_out_weights(first_KF, n_KF, k)
    first = float((weight_KF * first_KF).sum())
    cell_K22 = (counts_KF22.sum(axis=1) + 0.5) / (n_K + 2)[:, None, None]
    a_K, b_K = cell_K22[:, 1].sum(axis=1), cell_K22[:, :, 1].sum(axis=1)
    covariance_K = cell_K22[:, 1, 1] - a_K * b_K
    of_first = float(((n_KF * weight_KF**2).sum(axis=1) * a_K * (1 - a_K)).sum())
    # Of each class, were it among the k.
    with_KF = _paired_weights(weight_KF, n_KF, covariance_K / (b_K * (1 - b_K)), k)
    accuracy_K = (with_KF * counts_KF22[..., 1].sum(axis=2)).sum(axis=1)
    of_class_K = b_K * (1 - b_K) * (n_KF * with_KF**2).sum(axis=1)
    of_class_K -= 2 * covariance_K * (n_KF * with_KF * weight_KF).sum(axis=1)
    if k == 1:
        ends_K = accuracy_K - first - _Z * np.sqrt(np.maximum(of_first + of_class_K, 0))
        return float(ends_K.min())
    lowest = np.argsort(accuracy_K, kind="stable")[:k]
    variance = max(of_first + float(of_class_K[lowest].sum()), 0.0)
    return float(accuracy_K[lowest].sum()) - first - _Z * sqrt(variance)


def lowest_mean(
    right_KF: NDArray[np.int64], n_KF: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Mean of the k lowest observed accuracies; no higher on average than that of the true ones.

    Axes before those of `right_KF` are kept, and every class has images.
    """
    accuracy_K = right_KF.sum(axis=-1) / n_KF.sum(axis=-1)
    mean: NDArray[np.float64] = np.sort(accuracy_K, axis=-1)[..., :k].mean(axis=-1)
    return mean


def lowest_mean_held_out(
    right_KF: NDArray[np.int64], n_KF: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """The same of classes chosen on other images than judge them; no lower on average.

    NaN where a class has too few images for every fold.
    """
    if (n_KF == 0).any():
        return np.full(right_KF.shape[:-2], np.nan)
    mean: NDArray[np.float64] = (_held_out_weights(right_KF, n_KF, k) * right_KF).sum(axis=(-2, -1))
    return mean


def _held_out_weights(
    right_KF: NDArray[np.int64], n_KF: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """What an image of each class and fold weighs in the mean of the k classes chosen before it."""
    before_KF = right_KF.cumsum(axis=-1)[..., BURN - 1 : -1]
    order_KF = np.argsort(
        before_KF / n_KF.cumsum(axis=-1)[:, BURN - 1 : -1], axis=-2, kind="stable"
    )
    chosen_KF = np.zeros(right_KF.shape, dtype=bool)
    np.put_along_axis(chosen_KF[..., BURN:], order_KF[..., :k, :], True, axis=-2)
    weights: NDArray[np.float64] = chosen_KF / ((FOLDS - BURN) * k * n_KF)
    return weights


def _paired_weights(
    weight_KF: NDArray[np.float64], n_KF: NDArray[np.int64], slope_K: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """What an image of each class and fold weighs in the other side's mean of k classes.

    All images alike would waste the pairing, since the first folds only choose; only the judged
    would waste images. The least variance lies between, by the slope of one side on the other.
    """
    _, F = n_KF.shape
    shared_K = (n_KF * weight_KF).sum(axis=1) * k  # share of the judged folds that chose the class
    unjudged_K = BURN / F * (1 - np.clip(slope_K * shared_K, 0, 1))
    share_KF = np.where(
        np.arange(F) < BURN, unjudged_K[:, None] / BURN, (1 - unjudged_K[:, None]) / (F - BURN)
    )
    weights: NDArray[np.float64] = share_KF / n_KF / k
    return weights


def spread_delta(counts_K22: NDArray[np.int64], *, normalised: bool) -> Delta:
    """Difference in the debiased SD over classes or, if `normalised`, in the debiased NSD."""
    counts = counts_K22[counts_K22.sum(axis=(1, 2)) > 0]
    n_K = counts.sum(axis=(1, 2))
    if not n_K.size or (n_K < 2).any():
        return Delta()
    first = _Spread.of(counts[:, 1].sum(axis=1), n_K, normalised=normalised)
    second = _Spread.of(counts[:, :, 1].sum(axis=1), n_K, normalised=normalised)
    if first is None or second is None:
        roots = [each.root if each else None for each in (first, second)]
        return Delta(first=roots[0], second=roots[1])
    together_K = counts[:, 1, 1] / n_K - first.accuracy_K * second.accuracy_K
    value = second.root - first.root
    if first.may_be_zero or second.may_be_zero:
        low = value - second.below - first.above
        high = value + second.above + first.below
    else:
        correlation = first.correlation(second, together_K / (n_K - 1))
        low = value - _joined(second.below, first.above, correlation)
        high = value + _joined(second.above, first.below, correlation)
    return Delta(first.root, second.root, value, (low, high), detectable(low, high))


@dataclass(frozen=True, eq=False)
class _Spread:
    """The squared SD or NSD of one network, estimated without bias."""

    square: float  #: the estimate, which may be below 0
    growth: float  #: the variance of the estimate is growth · square + rest
    rest: float
    slope_K: NDArray[np.float64]  #: its derivative by the accuracy of each class
    scale: float  #: of its quadratic part: 1, or 1 / mean² where normalised
    accuracy_K: NDArray[np.float64]

    @classmethod
    def of(
        cls, right_K: NDArray[np.int64], n_K: NDArray[np.int64], *, normalised: bool
    ) -> _Spread | None:
        """Estimate it; None where an NSD has no value."""
        p_K = right_K / n_K
        mean, C = float(p_K.mean()), n_K.size
        if normalised and mean == 0:
            return None
        scale = 1 / mean**2 if normalised else 1.0
        noise_K = p_K * (1 - p_K) / (n_K - 1)
        square = scale * float(debiased_variance(right_K, n_K))
        slope_K = 2 * scale * (p_K - mean) / C
        if normalised:
            slope_K = slope_K - 2 * max(square, 0.0) / (C * mean)
        # Noise makes both the squared slopes and the raw square too large, their ratio hardly.
        raw = scale * float(p_K.var())
        growth = float((slope_K**2 * noise_K).sum()) / raw if raw > 0 else 0.0
        return cls(square, growth, scale**2 * _quadratic(noise_K), slope_K, scale, p_K)

    @property
    def root(self) -> float:
        """The SD or NSD."""
        return sqrt(max(self.square, 0.0))

    @property
    def variance(self) -> float:
        """Of `square`."""
        return self.growth * max(self.square, 0.0) + self.rest

    @property
    def may_be_zero(self) -> bool:
        """Whether equal classes are not excluded: there the root is no smooth function."""
        return self._limit(-1) <= 0

    @property
    def below(self) -> float:
        """How far the lower limit is from the estimate."""
        return self.root - sqrt(max(self._limit(-1), 0.0))

    @property
    def above(self) -> float:
        """How far the upper limit is from the estimate."""
        return max(sqrt(max(self._limit(+1), 0.0)) - self.root, 0.0)

    def _limit(self, side: int) -> float:
        """The square that is as far from the estimate as *its* variance allows, as Wilson's is."""
        half = _Z**2 * self.growth / 2
        under = self.growth * self.square + half * self.growth / 2 + self.rest
        return self.square + half + side * _Z * sqrt(max(under, 0.0))

    def correlation(self, other: _Spread, covariance_K: NDArray[np.float64]) -> float:
        """Of the two estimates, given the covariance of the accuracies of each class."""
        C = covariance_K.size
        noise_K = (2 / C) ** 2 * (1 - 1 / C) * self.scale * other.scale * covariance_K
        together = float(((self.slope_K * other.slope_K - noise_K) * covariance_K).sum())
        together += self.scale * other.scale * _quadratic(covariance_K)
        product = sqrt(self.variance * other.variance)
        return float(np.clip(together / product, -1, 1)) if product > 0 else 0.0


def _quadratic(covariance_K: NDArray[np.float64]) -> float:
    """2 tr((MΣ)²) with M the matrix of the variance over C classes and Σ diagonal."""
    C = covariance_K.size
    squares = float((covariance_K**2).sum())
    return 2 / C**2 * ((1 - 2 / C) * squares + float(covariance_K.sum()) ** 2 / C**2)


def _joined(this: float, other: float, correlation: float) -> float:
    return sqrt(max(this**2 + other**2 - 2 * correlation * this * other, 0.0))
