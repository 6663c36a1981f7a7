"""One network against another on the same images: differences, and which exceed the noise.

Differences are second − first, fractions. K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from ferd_eval.metrics.comparison.alignment import SameImages
from ferd_eval.metrics.comparison.delta import (
    Delta,
    detectable,
    lowest_delta,
    of_accuracies,
    spread_delta,
)
from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.comparison.verdict import MARGIN, Verdict, verdict
from ferd_eval.metrics.dispersion import normalised_sd, shares
from ferd_eval.metrics.figures import AVERAGE, lowest_figure
from ferd_eval.metrics.per_class import by_class, finite
from ferd_eval.results.outcomes import Outcomes

_LEVEL = 0.05


@dataclass(frozen=True)
class ClassDelta:
    """One class of both networks."""

    index: int
    name: str
    n: int
    first: float | None = None  #: accuracies of both
    second: float | None = None
    value: float | None = None
    interval95: tuple[float, float] | None = None  #: of `value`, of one class on its own
    #: That there is no difference, for this class on its own: exact McNemar test, or with several
    #: seeds a t test.
    p: float | None = None
    #: `p` adjusted for all classes (Holm 1979); significant up to 0.05.
    p_holm: float | None = None


@dataclass(frozen=True)
class Split:
    """Why the NSD differs: it falls when the mean rises, whether or not the classes come closer.

    The two parts add up to the difference of the debiased NSDs: half of each order of changing the
    spread (the SD) and the mean.
    """

    by_spread: float
    by_mean: float


@dataclass(frozen=True)
class Comparison:
    """How a second network stands to a first under one attack."""

    attack: str
    n: int  #: images
    seeds: tuple[int, int]  #: networks on each side; (1, 1) tells of two checkpoints only
    per_class: tuple[ClassDelta, ...]
    average: Delta  #: the differences; SD and NSD are debiased
    worst_class: Delta
    worst_10pct: Delta
    sd: Delta
    nsd: Delta
    nsd_raw: tuple[float | None, float | None]  #: the NSDs as papers print them
    nsd_split: Split | None
    better: tuple[int, ...]  #: classes in which the second is significantly better, or worse
    worse: tuple[int, ...]
    #: Figure that decides the verdict: "worst_class", or "worst_10pct" from 100 classes on.
    lowest: str
    margin: float  #: loss on average that the verdict takes for none
    verdict: Verdict


def compare(first: Outcomes, second: Outcomes, attack: str, margin: float = MARGIN) -> Comparison:
    """Compare two runs.

    Raises:
        UserError: they were not scored on the same images, or not under this attack.
    """
    return compare_pair(SameImages.of([first, second], attack), 0, 1, attack, margin)


def compare_pair(
    images: SameImages, first: int, second: int, attack: str, margin: float = MARGIN
) -> Comparison:
    """Compare two of several runs that are lined up already, given by their places."""
    counts_KF22 = images.counts(first, second)
    counts_K22 = counts_KF22.sum(axis=1)
    pair = Paired.from_counts(counts_K22)
    per_class = _class_deltas(pair, images.class_names)
    return assemble(
        attack,
        len(images.label_N),
        (1, 1),
        per_class,
        {
            "average": _average(pair),
            "worst_class": lowest_delta(counts_KF22, 1),
            "worst_10pct": lowest_delta(counts_KF22, -(-int(np.count_nonzero(pair.n_K)) // 10)),
            "sd": spread_delta(counts_K22, normalised=False),
            "nsd": spread_delta(counts_K22, normalised=True),
        },
        nsd_raw=(_raw_nsd(pair.first_right, pair.n_K), _raw_nsd(pair.second_right, pair.n_K)),
        margin=margin,
    )


def assemble(
    attack: str,
    n: int,
    seeds: tuple[int, int],
    per_class: Sequence[ClassDelta],
    deltas: Mapping[str, Delta],
    *,
    nsd_raw: tuple[float | None, float | None],
    margin: float,
) -> Comparison:
    """Draw the conclusions from the differences; `deltas` are those of `Comparison`, by field."""
    values = [each.value for each in per_class if each.value is not None]
    better, worse = _significant(per_class, +1), _significant(per_class, -1)
    lowest = lowest_figure(len(values)).key
    return Comparison(
        attack=attack,
        n=n,
        seeds=seeds,
        per_class=tuple(per_class),
        **deltas,
        nsd_raw=nsd_raw,
        nsd_split=_split(deltas["sd"], deltas["nsd"]),
        better=better,
        worse=worse,
        lowest=lowest,
        margin=margin,
        verdict=verdict(
            deltas[AVERAGE.key],
            deltas[lowest],
            values,
            better=len(better),
            worse=len(worse),
            margin=margin,
        ),
    )


def holm(p_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values adjusted for all that are not NaN (Holm 1979, Scand. J. Stat. 6:65)."""
    adjusted = np.full(p_K.shape, np.nan)
    present = np.flatnonzero(~np.isnan(p_K))
    order = present[np.argsort(p_K[present], kind="stable")]
    steps = p_K[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def mcnemar(
    first_only_K: NDArray[np.int64], second_only_K: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Exact two-sided p-values that a discordant pair falls either way alike (McNemar 1947)."""
    total_K = first_only_K + second_only_K
    fewer_K = np.minimum(first_only_K, second_only_K)
    p: NDArray[np.float64] = np.minimum(2 * bdtr(fewer_K.astype(float), total_K, 0.5), 1.0)
    return np.where(total_K == 0, 1.0, p)


def _raw_nsd(right_K: NDArray[np.int64], n_K: NDArray[np.int64]) -> float | None:
    return finite(normalised_sd(right_K[n_K > 0] / n_K[n_K > 0]))


def _average(pair: Paired) -> Delta:
    total = pair.total()
    n = int(total.n_K[0])
    if n == 0:
        return Delta()
    low, high = (float(end[0]) for end in total.gap_interval())
    first, second = float(total.first_right[0]) / n, float(total.second_right[0]) / n
    value = -float(total.gap()[0])
    return of_accuracies(Delta(first, second, value, (-high, -low), detectable(low, high)))


def _class_deltas(pair: Paired, names: Sequence[str]) -> tuple[ClassDelta, ...]:
    low_K, high_K = pair.gap_interval()
    p_K = np.where(pair.n_K > 0, mcnemar(pair.first_only_K, pair.second_only_K), np.nan)
    return by_class(
        ClassDelta,
        names,
        n=pair.n_K,
        first=shares(pair.first_right, pair.n_K),
        second=shares(pair.second_right, pair.n_K),
        value=-pair.gap(),
        interval95=(-high_K, -low_K),
        p=p_K,
        p_holm=holm(p_K),
    )


def _significant(classes: Sequence[ClassDelta], sign: int) -> tuple[int, ...]:
    return tuple(
        each.index
        for each in classes
        if each.p_holm is not None
        and each.p_holm <= _LEVEL
        and each.value is not None
        and sign * each.value > 0
    )


def _split(sd: Delta, nsd: Delta) -> Split | None:
    if not sd.first or not sd.second or not nsd.first or not nsd.second:
        return None
    inverse_first, inverse_second = nsd.first / sd.first, nsd.second / sd.second
    return Split(
        by_spread=(sd.second - sd.first) * (inverse_first + inverse_second) / 2,
        by_mean=(sd.first + sd.second) / 2 * (inverse_second - inverse_first),
    )
