"""Several networks or methods against each other under one attack, each difference once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from ferd_eval.errors import UserError
from ferd_eval.metrics.comparison.alignment import SameImages
from ferd_eval.metrics.comparison.checkpoints import Comparison, compare_pair
from ferd_eval.metrics.comparison.delta import Delta
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS, ResampledRuns
from ferd_eval.metrics.figures import Figure
from ferd_eval.results.run_group import RunGroup


@dataclass(frozen=True)
class SeedMean:
    """A figure over training seeds."""

    value: float | None
    half95: float | None  #: half the 95 % t interval of the mean; None below three seeds


def seed_mean(values: Sequence[float | None]) -> SeedMean:
    """Mean of a figure over seeds; no value where one of them has none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return SeedMean(None, None)
    S, mean = len(known), float(np.mean(known))
    if S < FEWEST_SEEDS:
        return SeedMean(mean, None)
    error = float(np.std(known, ddof=1)) / sqrt(S)
    return SeedMean(mean, float(stdtrit(S - 1, 0.975)) * error)


@dataclass(eq=False)
class PairwiseTests:
    """Differences between any two groups of runs under one attack."""

    groups: Sequence[RunGroup]
    attack: str
    #: Whether they were scored on the same images, and so can be compared.
    same_images: bool = field(init=False)
    _images: SameImages | None = field(init=False)
    _resampled: ResampledRuns | None = field(init=False, default=None)
    _known: dict[tuple[int, int], Comparison | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._images = SameImages.of(
                [run for each in self.groups for run in each.runs], self.attack
            )
        except UserError:
            self._images = None
        self.same_images = self._images is not None

    def tied(self, first: int, second: int, figure: Figure) -> bool | None:
        """Whether the 95 % interval of a difference holds 0; None where there is no interval.

        A difference of 0 is told from nothing, with or without one.

        Args:
            first: place of a group.
            second: place of another.
            figure: debiased where comparisons debias it; None comes back of one they leave out.
        """
        if not figure.compared:
            return None
        if (first, second) not in self._known:
            self._known[first, second] = self._compare(first, second)
        comparison = self._known[first, second]
        if comparison is None:
            return None
        delta: Delta = getattr(comparison, figure.key)
        if delta.interval95 is None:
            return True if delta.value == 0 else None
        return not (delta.above_zero or delta.below_zero)

    def _compare(self, first: int, second: int) -> Comparison | None:
        """Two networks by their images, two methods by their seeds; nothing across."""
        if self._images is None:
            return None
        sides = self.groups[first], self.groups[second]
        sizes = [len(side.runs) for side in sides]
        places = self._places(first), self._places(second)
        if sizes == [1, 1]:
            return compare_pair(self._images, places[0][0], places[1][0], self.attack)
        if min(sizes) < FEWEST_SEEDS:
            return None
        if self._resampled is None:
            self._resampled = ResampledRuns.of(self._images)
        seeds = [side.seeds for side in sides]
        paired = seeds[0] == seeds[1] and None not in seeds[0]
        return self._resampled.compare(*places, self.attack, by_seed=paired)

    def _places(self, group: int) -> range:
        start = sum(len(each.runs) for each in self.groups[:group])
        return range(start, start + len(self.groups[group].runs))
