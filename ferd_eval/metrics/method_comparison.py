"""One method against another, several networks trained of each: a t interval over seeds.

S seeds a side, N images, K classes, F folds. A statistic varies with the seed and with the images.
All networks meet the same images, so what these contribute does not average out over seeds: it is
estimated by a bootstrap within class (classes are fixed and never resampled) and added to the
variance of the mean over seeds. With 3 seeds the percentile bootstrap over seeds covers 74 %; the
t interval has S − 1 degrees of freedom, few, and says so by its width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from ferd_eval.errors import UserError
from ferd_eval.metrics.comparison import ClassDelta, Comparison, assemble, holm
from ferd_eval.metrics.confusion import finite
from ferd_eval.metrics.delta import FOLDS, Delta, lowest_mean, lowest_mean_held_out
from ferd_eval.metrics.same_images import SameImages
from ferd_eval.metrics.spread import debiased_nsd, debiased_sd, normalised_sd
from ferd_eval.metrics.verdict import MARGIN
from ferd_eval.outcomes import Outcomes

#: Fewer seeds give no interval worth the name.
FEWEST_SEEDS = 3

#: Resamples for the variance that the images contribute: its root is known to some 4 %.
_RESAMPLES = 300
_SEED = 20509

#: A figure of one network from its right images and all images, by class and fold.
_Figure = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


def compare_methods(
    first: Sequence[Outcomes],
    second: Sequence[Outcomes],
    attack: str,
    *,
    by_seed: bool,
    margin: float = MARGIN,
) -> Comparison:
    """Compare two methods by networks of several seeds.

    Args:
        by_seed: the runs of both sides are given in the same order of seeds, and those of one seed
            share all that the seed decides (and the teacher): differences are taken seed by seed.

    Raises:
        UserError: fewer than three runs a side, other images, or by seed with unequal numbers.
    """
    seeds = (len(first), len(second))
    if min(seeds) < FEWEST_SEEDS:
        raise UserError(
            f"a method needs at least {FEWEST_SEEDS} seeds a side, given are {seeds[0]} and "
            f"{seeds[1]}. Train more, or compare two checkpoints: that says nothing of a method."
        )
    if by_seed and seeds[0] != seeds[1]:
        raise UserError(
            f"to be compared seed by seed both sides need as many runs, given are {seeds[0]} and "
            f"{seeds[1]}. Give those of the same seeds."
        )
    images = SameImages.of([*first, *second], attack)
    sample = _Sample.of(images, seeds[0], by_seed=by_seed)
    present = int(np.count_nonzero(sample.n_KF.sum(axis=1)))
    return assemble(
        attack,
        len(images.label_N),
        seeds,
        _class_deltas(sample, images.class_names),
        average=sample.delta(_average),
        worst_class=_lowest(sample, 1),
        worst_10pct=_lowest(sample, -(-present // 10)),
        sd=sample.delta(_sd),
        nsd=sample.delta(_nsd),
        nsd_raw=sample.means(_raw_nsd),
        margin=margin,
    )


@dataclass(frozen=True, eq=False)
class _Sample:
    """Right images by run, class and fold, as observed and in B resamples of the images.

    Attributes:
        split: the number of runs of the first method; the others are of the second.
        by_seed: whether runs of the same place on both sides are pairs.
    """

    right_RKF: NDArray[np.int64]
    resampled_BRKF: NDArray[np.int64]
    n_KF: NDArray[np.int64]
    split: int
    by_seed: bool

    @classmethod
    def of(cls, images: SameImages, split: int, *, by_seed: bool) -> _Sample:
        """Count, and draw the resamples within each class and fold."""
        K, R = len(images.class_names), len(images.right_RN)
        cell_N = images.label_N * FOLDS + images.fold_N
        n_KF = np.bincount(cell_N, minlength=K * FOLDS)
        right_CR = np.zeros((K * FOLDS, R), dtype=np.int64)
        resampled_BCR = np.zeros((_RESAMPLES, K * FOLDS, R), dtype=np.int64)
        random = np.random.default_rng(_SEED)
        for cell in np.flatnonzero(n_KF):
            right_RM = images.right_RN[:, cell_N == cell].astype(np.int64)
            m = right_RM.shape[1]
            right_CR[cell] = right_RM.sum(axis=1)
            times_BM = random.multinomial(m, np.full(m, 1 / m), size=_RESAMPLES)
            resampled_BCR[:, cell] = times_BM @ right_RM.T
        return cls(
            right_CR.T.reshape(R, K, FOLDS),
            resampled_BCR.transpose(0, 2, 1).reshape(_RESAMPLES, R, K, FOLDS),
            n_KF.reshape(K, FOLDS),
            split,
            by_seed,
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom: without pairs, of the side with fewer seeds."""
        return min(self.split, len(self.right_RKF) - self.split) - 1

    def delta(self, figure: _Figure) -> Delta:
        """The difference of a figure with its t interval."""
        return _delta(*self.means(figure), self._error(figure, figure), self.freedom)

    def bounded(self, plain: _Figure, held_out: _Figure) -> Delta:
        """The difference of a figure that is biased: each end takes the side that makes it wide.

        Args:
            plain: no higher than the figure, on average.
            held_out: no lower.
        """
        first, second = self.means(plain)
        first_above, second_above = self.means(held_out)
        low, high = self._error(held_out, plain), self._error(plain, held_out)
        t = float(stdtrit(self.freedom, 0.975))
        ends = second - first_above - t * low, second_above - first + t * high
        delta = _delta(first, second, (low + high) / 2, self.freedom)
        if not np.isfinite(ends).all():
            return Delta(delta.first, delta.second, delta.value, None, None)
        value = second - first
        return Delta(first, second, value, (min(ends[0], value), max(ends[1], value)),
                     delta.detectable)  # fmt: skip

    def means(self, figure: _Figure) -> tuple[float, float]:
        """Of each side, over its seeds."""
        values = [figure(right_KF, self.n_KF) for right_KF in self.right_RKF]
        return float(np.mean(values[: self.split])), float(np.mean(values[self.split :]))

    def _error(self, of_first: _Figure, of_second: _Figure) -> float:
        """Standard error of the difference of means: of the seeds, and of the images."""
        first = _each(of_first, self.right_RKF[: self.split], self.n_KF)
        second = _each(of_second, self.right_RKF[self.split :], self.n_KF)
        resampled = [
            _each(of_second, right_RKF[self.split :], self.n_KF).mean()
            - _each(of_first, right_RKF[: self.split], self.n_KF).mean()
            for right_RKF in self.resampled_BRKF
        ]
        return float((self._of_seeds(first, second) + np.var(resampled, ddof=1)) ** 0.5)

    def class_error(self) -> NDArray[np.float64]:
        """The same for the accuracy of each class; NaN without images."""
        n_K = self.n_KF.sum(axis=1)
        with np.errstate(invalid="ignore"):
            accuracy_RK = self.right_RKF.sum(axis=2) / n_K
            resampled_BRK = self.resampled_BRKF.sum(axis=3) / n_K
        difference_BK = resampled_BRK[:, self.split :].mean(axis=1)
        difference_BK = difference_BK - resampled_BRK[:, : self.split].mean(axis=1)
        seeds_K = self._of_seeds(accuracy_RK[: self.split], accuracy_RK[self.split :])
        error_K: NDArray[np.float64] = np.sqrt(seeds_K + difference_BK.var(axis=0, ddof=1))
        return error_K

    def _of_seeds(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> Any:
        """Variance of the difference of means between seeds; the first axis runs over seeds."""
        if self.by_seed:
            return (second - first).var(axis=0, ddof=1) / len(first)
        return first.var(axis=0, ddof=1) / len(first) + second.var(axis=0, ddof=1) / len(second)


def _each(
    figure: _Figure, right_RKF: NDArray[np.int64], n_KF: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.array([figure(right_KF, n_KF) for right_KF in right_RKF])


def _average(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> float:
    return float(right_KF.sum() / n_KF.sum())


def _sd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> float:
    return debiased_sd(right_KF.sum(axis=1), n_KF.sum(axis=1))


def _nsd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> float:
    return debiased_nsd(right_KF.sum(axis=1), n_KF.sum(axis=1))


def _raw_nsd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> float:
    right_K, n_K = right_KF.sum(axis=1), n_KF.sum(axis=1)
    return normalised_sd(right_K[n_K > 0] / n_K[n_K > 0])


def _lowest(sample: _Sample, k: int) -> Delta:
    return sample.bounded(partial(lowest_mean, k=k), partial(lowest_mean_held_out, k=k))


def _delta(first: float, second: float, error: float, freedom: int) -> Delta:
    value = second - first
    if not np.isfinite(value):
        return Delta(finite(first), finite(second), None, None, None)
    if not np.isfinite(error):
        return Delta(first, second, value, None, None)
    t = float(stdtrit(freedom, 0.975))
    return Delta(
        first,
        second,
        value,
        (value - t * error, value + t * error),
        (t + float(stdtrit(freedom, 0.8))) * error,
    )


def _class_deltas(sample: _Sample, names: Sequence[str]) -> tuple[ClassDelta, ...]:
    n_K, error_K = sample.n_KF.sum(axis=1), sample.class_error()
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy_RK = sample.right_RKF.sum(axis=2) / n_K
        first_K = accuracy_RK[: sample.split].mean(axis=0)
        second_K = accuracy_RK[sample.split :].mean(axis=0)
        t_K = np.abs(second_K - first_K) / error_K
    # Nothing differs between seeds or images: the classes are the same for certain, or not.
    t_K = np.where((error_K == 0) & (second_K == first_K), 0.0, t_K)
    p_K = 2 * stdtr(sample.freedom, -t_K)
    adjusted_K = holm(p_K)
    half_K = float(stdtrit(sample.freedom, 0.975)) * error_K
    value_K = second_K - first_K
    return tuple(
        ClassDelta(
            index=k,
            name=name,
            n=n,
            first=finite(first_K[k]),
            second=finite(second_K[k]),
            value=finite(value_K[k]),
            interval95=(float(value_K[k] - half_K[k]), float(value_K[k] + half_K[k]))
            if n
            else None,
            p=finite(p_K[k]),
            p_holm=finite(adjusted_K[k]),
        )
        for k, (name, n) in enumerate(zip(names, n_K.tolist(), strict=True))
    )
