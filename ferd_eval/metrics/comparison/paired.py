"""Two attacks, or two networks, on the same images. K classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from ferd_eval.metrics.dispersion import shares
from ferd_eval.metrics.intervals import clopper_pearson_lower
from ferd_eval.results.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Paired:
    """Images of each class that both met, by who left them right."""

    n_K: NDArray[np.int64]
    both_K: NDArray[np.int64]  #: right under both
    first_only_K: NDArray[np.int64]  #: right under the first, wrong under the second
    second_only_K: NDArray[np.int64]  #: the reverse

    @classmethod
    def of(cls, outcomes: Outcomes, first: str, second: str) -> Paired:
        """Count two attacks of a run; what is aimed at several classes must miss them all."""
        one, two = (_by_image(outcomes.of(attack)) for attack in (first, second))
        index_1, index_2 = (rows["index"].to_numpy(dtype=np.int64) for rows in (one, two))
        _, at_1, at_2 = np.intersect1d(index_1, index_2, assume_unique=True, return_indices=True)
        first_N = one["correct"].to_numpy(dtype=bool)[at_1]
        second_N = two["correct"].to_numpy(dtype=bool)[at_2]
        labels_N, K = one["label"].to_numpy()[at_1], len(outcomes.class_names)

        def count(rows_N: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(labels_N[rows_N], minlength=K).astype(np.int64)

        return cls(
            np.bincount(labels_N, minlength=K).astype(np.int64),
            count(first_N & second_N),
            count(first_N & ~second_N),
            count(~first_N & second_N),
        )

    @classmethod
    def from_counts(cls, counts_K22: NDArray[np.int64]) -> Paired:
        """From images by class and whether the first and the second are right."""
        return cls(
            counts_K22.sum(axis=(1, 2)),
            counts_K22[:, 1, 1],
            counts_K22[:, 1, 0],
            counts_K22[:, 0, 1],
        )

    @property
    def first_right(self) -> NDArray[np.int64]:
        return self.both_K + self.first_only_K

    @property
    def second_right(self) -> NDArray[np.int64]:
        return self.both_K + self.second_only_K

    def total(self) -> Paired:
        """All classes as one."""
        return Paired(
            *(
                part.sum(keepdims=True)
                for part in (self.n_K, self.both_K, self.first_only_K, self.second_only_K)
            )
        )

    def gap(self) -> NDArray[np.float64]:
        """Accuracy under the first − under the second; NaN for a class without images."""
        return shares(self.first_only_K - self.second_only_K, self.n_K)

    def gap_interval(
        self, confidence: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two-sided score interval of the gap, for print (Tango 1998, Stat. Med. 17:891).

        It holds the gaps that a score test does not reject. Unlike simpler intervals it keeps its
        cover where the stronger attack breaks all that the weaker does, and hardly anything more.
        """
        z = float(ndtri((1 + confidence) / 2))
        low_K, high_K = (self._gap_with_score(bound) for bound in (z, -z))
        empty_K = self.n_K == 0
        return np.where(empty_K, np.nan, low_K), np.where(empty_K, np.nan, high_K)

    def _gap_with_score(self, wanted: float) -> NDArray[np.float64]:
        """The gap at which the score is as wanted, by bisection: the score falls as the gap grows.

        Forty halvings of [−1, 1] leave less than 2⁻³⁹.
        """
        low_K, high_K = np.full(len(self.n_K), -1.0), np.ones(len(self.n_K))
        for _ in range(40):
            middle_K = (low_K + high_K) / 2
            above_K = self._score(middle_K) > wanted
            low_K, high_K = np.where(above_K, middle_K, low_K), np.where(above_K, high_K, middle_K)
        return (low_K + high_K) / 2

    def _score(self, gap_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tango's z for a true gap: equations 5 and 8, with n at least 1."""
        n, b, c = np.maximum(self.n_K, 1.0), self.first_only_K, self.second_only_K
        linear = (2 * n - b + c) * gap_K - b - c
        root = np.sqrt(np.maximum(linear**2 + 8 * n * c * gap_K * (1 - gap_K), 0))
        second_only = (root - linear) / (4 * n)  # its share, most likely under this gap
        variance = n * (2 * second_only + gap_K * (1 - gap_K))
        score: NDArray[np.float64] = (b - c - n * gap_K) / np.sqrt(np.maximum(variance, 1e-12))
        return score

    def gap_at_least(self, level: float) -> NDArray[np.float64]:
        """One-sided lower limit of the gap that holds with probability 1 − `level` or more.

        Clopper–Pearson for what only the second attack breaks, less Clopper–Pearson for what only
        the first does, half the level each (Bonferroni). Wide, but valid for three images, which no
        approximation is: a warning rests on it.
        """
        confidence = 1 - level / 2
        lost = clopper_pearson_lower(self.first_only_K, self.n_K, confidence)
        regained = 1 - clopper_pearson_lower(self.n_K - self.second_only_K, self.n_K, confidence)
        return lost - regained

    def gap_at_most(self, level: float) -> NDArray[np.float64]:
        """One-sided upper limit of the gap that holds with probability 1 − `level` or more.

        The gap the other way round, from below.
        """
        turned = Paired(self.n_K, self.both_K, self.second_only_K, self.first_only_K)
        return -turned.gap_at_least(level)


def _by_image(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an image: right if it is right whatever class is aimed at."""
    columns = rows[["index", "label", "correct"]]
    if not columns["index"].duplicated().any():
        return columns
    return columns.groupby("index", as_index=False, sort=False).agg(
        {"label": "first", "correct": "all"}
    )
