"""One method against another, several networks trained of each: a t interval over seeds.

S seeds a side, N images, K classes, F folds. A statistic varies with the seed and with the images.
All networks meet the same images, so what these contribute does not average out over seeds: it is
estimated by a bootstrap within class (classes are fixed and never resampled) and added to the
variance of the mean over seeds. With 3 seeds the percentile bootstrap over seeds covers 74 %; the
t interval has S − 1 degrees of freedom, few, and says so by its width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from ferd_eval.errors import UserError
from ferd_eval.metrics.comparison.alignment import SameImages
from ferd_eval.metrics.comparison.checkpoints import ClassDelta, Comparison, assemble, holm
from ferd_eval.metrics.comparison.delta import (
    FOLDS,
    Delta,
    lowest_mean,
    lowest_mean_held_out,
    of_accuracies,
)
from ferd_eval.metrics.comparison.verdict import MARGIN
from ferd_eval.metrics.dispersion import debiased_nsd, debiased_sd
from ferd_eval.metrics.per_class import by_class, finite
from ferd_eval.results.outcomes import Outcomes

#: Fewer seeds give no interval worth the name.
FEWEST_SEEDS = 3

#: Resamples for the variance that the images contribute: its root is known to some 4 %.
_RESAMPLES = 300
_SEED = 20509

#: A figure of each of several networks: from right images …KF and all images KF to one value each.
_Figure = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


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
        first: runs of the first method, one a seed.
        second: runs of the second.
        attack: compared under this one.
        by_seed: both sides give their runs in the same order of seeds, and those of one seed share
            all that the seed decides (and the teacher): differences are taken seed by seed.
        margin: loss on average that the verdict takes for none.

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
    runs = ResampledRuns.of(SameImages.of([*first, *second], attack))
    places = range(seeds[0]), range(seeds[0], sum(seeds))
    return runs.compare(*places, attack, by_seed=by_seed, margin=margin)


@dataclass(frozen=True, eq=False)
class ResampledRuns:
    """Right images by run, class and fold, as observed and in B resamples of the images.

    The resamples cost more than a comparison, and do not depend on who is compared.
    """

    right_RKF: NDArray[np.int64]
    resampled_BRKF: NDArray[np.int64]
    n_KF: NDArray[np.int64]
    present: NDArray[np.int64]  #: the classes that have images; K counts only these
    class_names: tuple[str, ...]  #: of all classes

    @classmethod
    def of(cls, images: SameImages) -> ResampledRuns:
        """Count, and draw the resamples within each class and fold."""
        K, R = len(images.class_names), len(images.right_RN)
        cell_N = images.label_N * FOLDS + images.fold_N
        n_C = np.bincount(cell_N, minlength=K * FOLDS)
        right_RC = np.zeros((R, K * FOLDS), dtype=np.int64)
        resampled_BRC = np.zeros((_RESAMPLES, R, K * FOLDS), dtype=np.int64)
        random = np.random.default_rng(_SEED)
        for cell in np.flatnonzero(n_C):
            right_RM = images.right_RN[:, cell_N == cell].astype(np.int64)
            m = right_RM.shape[1]
            right_RC[:, cell] = right_RM.sum(axis=1)
            times_BM = random.multinomial(m, np.full(m, 1 / m), size=_RESAMPLES)
            resampled_BRC[:, :, cell] = times_BM @ right_RM.T
        n_KF = n_C.reshape(K, FOLDS)
        present = np.flatnonzero(n_KF.sum(axis=1))
        return cls(
            right_RC.reshape(R, K, FOLDS)[:, present],
            resampled_BRC.reshape(_RESAMPLES, R, K, FOLDS)[:, :, present],
            n_KF[present],
            present,
            images.class_names,
        )

    def compare(
        self,
        first: Sequence[int],
        second: Sequence[int],
        attack: str,
        *,
        by_seed: bool,
        margin: float = MARGIN,
    ) -> Comparison:
        """Compare two methods whose runs are given by their places, as `compare_methods` does."""
        chosen = [*first, *second]
        sample = _Sample(
            self.right_RKF[chosen], self.resampled_BRKF[:, chosen], self.n_KF, self.present,
            self.class_names, len(first), by_seed,
        )  # fmt: skip
        return assemble(
            attack,
            int(sample.n_KF.sum()),
            (len(first), len(second)),
            _class_deltas(sample, sample.class_names),
            {
                "average": of_accuracies(sample.delta(_average)),
                "worst_class": _lowest(sample, 1),
                "worst_10pct": _lowest(sample, -(-len(sample.n_KF) // 10)),
                "sd": sample.delta(_sd),
                "nsd": sample.delta(_nsd),
            },
            nsd_raw=sample.means(_raw_nsd),
            margin=margin,
        )


@dataclass(frozen=True, eq=False)
class _Sample(ResampledRuns):
    """The runs of two methods."""

    split: int  #: the number of runs of the first method; the others are of the second
    by_seed: bool  #: whether runs of the same place on both sides are pairs

    @property
    def freedom(self) -> int:
        """Degrees of freedom: without pairs, of the side with fewer seeds."""
        return min(self.split, len(self.right_RKF) - self.split) - 1

    def delta(self, figure: _Figure) -> Delta:
        """The difference of a figure with its t interval."""
        first, second = self.sides(figure)
        error = self.error(first, second)
        return _delta(first.mean, second.mean, float(error), self.freedom)

    def bounded(self, plain: _Figure, held_out: _Figure) -> Delta:
        """The difference of a biased figure; each end takes the side that makes the interval wide.

        On average `plain` is no higher than the figure, `held_out` no lower.
        """
        first, second = self.sides(plain)
        first_above, second_above = self.sides(held_out)
        low = float(self.error(first_above, second))
        high = float(self.error(first, second_above))
        t = float(stdtrit(self.freedom, 0.975))
        ends = second.mean - first_above.mean - t * low, second_above.mean - first.mean + t * high
        delta = _delta(first.mean, second.mean, (low + high) / 2, self.freedom)
        if delta.value is None or delta.interval95 is None:
            return delta
        return replace(delta, interval95=(min(ends[0], delta.value), max(ends[1], delta.value)))

    def means(self, figure: _Figure) -> tuple[float | None, float | None]:
        first, second = self.sides(figure)
        return finite(first.mean), finite(second.mean)

    def error(self, first: _Side, second: _Side) -> NDArray[np.float64]:
        """Standard error of the difference of means: of the seeds, and of the images."""
        if self.by_seed:
            of_seeds = (second.of_seed - first.of_seed).var(axis=0, ddof=1) / self.split
        else:
            of_seeds = sum(
                side.of_seed.var(axis=0, ddof=1) / len(side.of_seed) for side in (first, second)
            )
        of_images = (second.resampled_B - first.resampled_B).var(axis=0, ddof=1)
        error: NDArray[np.float64] = np.sqrt(of_seeds + of_images)
        return error

    def sides(self, figure: _Figure) -> tuple[_Side, _Side]:
        """A figure of both methods."""
        of_seed = figure(self.right_RKF, self.n_KF)
        resampled_BR = figure(self.resampled_BRKF, self.n_KF)
        return (
            _Side(of_seed[: self.split], resampled_BR[:, : self.split].mean(axis=1)),
            _Side(of_seed[self.split :], resampled_BR[:, self.split :].mean(axis=1)),
        )


@dataclass(frozen=True, eq=False)
class _Side:
    """A figure of one method: for each seed, and its mean over seeds in each resample."""

    of_seed: NDArray[np.float64]
    resampled_B: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.of_seed.mean())


def _average(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> NDArray[np.float64]:
    average: NDArray[np.float64] = right_KF.sum(axis=(-2, -1)) / n_KF.sum()
    return average


def _sd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> NDArray[np.float64]:
    return debiased_sd(right_KF.sum(axis=-1), n_KF.sum(axis=-1))


def _nsd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> NDArray[np.float64]:
    return debiased_nsd(right_KF.sum(axis=-1), n_KF.sum(axis=-1))


def _accuracies(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> NDArray[np.float64]:
    """By class, as the last axis."""
    accuracy_K: NDArray[np.float64] = right_KF.sum(axis=-1) / n_KF.sum(axis=-1)
    return accuracy_K


def _raw_nsd(right_KF: NDArray[np.int64], n_KF: NDArray[np.int64]) -> NDArray[np.float64]:
    accuracy_K = _accuracies(right_KF, n_KF)
    with np.errstate(invalid="ignore", divide="ignore"):
        nsd: NDArray[np.float64] = accuracy_K.std(axis=-1) / accuracy_K.mean(axis=-1)
    return nsd


def _lowest(sample: _Sample, k: int) -> Delta:
    return of_accuracies(
        sample.bounded(partial(lowest_mean, k=k), partial(lowest_mean_held_out, k=k))
    )


def _delta(first: float, second: float, error: float, freedom: int) -> Delta:
    value = second - first
    if not np.isfinite(value):
        return Delta(finite(first), finite(second))
    if not np.isfinite(error):
        return Delta(first, second, value)
    t = float(stdtrit(freedom, 0.975))
    return Delta(
        first,
        second,
        value,
        (value - t * error, value + t * error),
        (t + float(stdtrit(freedom, 0.8))) * error,
    )


def _class_deltas(sample: _Sample, names: Sequence[str]) -> tuple[ClassDelta, ...]:
    first, second = sample.sides(_accuracies)
    first_K, second_K = first.of_seed.mean(axis=0), second.of_seed.mean(axis=0)
    value_K, error_K = second_K - first_K, sample.error(first, second)
    with np.errstate(invalid="ignore", divide="ignore"):
        t_K = np.abs(value_K) / error_K
    # Where neither seeds nor images vary, a difference of 0 is none.
    p_K = 2 * stdtr(sample.freedom, -np.where(value_K == 0, 0.0, t_K))
    half_K = float(stdtrit(sample.freedom, 0.975)) * error_K

    def of_all(values_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """NaN for the classes without images."""
        whole = np.full(len(names), np.nan)
        whole[sample.present] = values_K
        return whole

    n_of_all = np.zeros(len(names), dtype=np.int64)
    n_of_all[sample.present] = sample.n_KF.sum(axis=1)
    return by_class(
        ClassDelta,
        names,
        n=n_of_all,
        first=of_all(first_K),
        second=of_all(second_K),
        value=of_all(value_K),
        interval95=(of_all(value_K - half_K), of_all(value_K + half_K)),
        p=of_all(p_K),
        p_holm=of_all(holm(p_K)),
    )
