"""Made-up runs on the same images: from exact counts, or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.results.outcomes import Outcomes
from tests.eval.metrics.simulated_run import rows, run


def from_counts(counts_K22: Any, **more: Any) -> tuple[Outcomes, Outcomes]:
    """Two runs with exactly so many images by class and by whether each is right."""
    counts_K22 = np.asarray(counts_K22)
    labels, first, second = [], [], []
    for k, counts_22 in enumerate(counts_K22):
        for a in (0, 1):
            for b in (0, 1):
                labels += [k] * int(counts_22[a, b])
                first += [bool(a)] * int(counts_22[a, b])
                second += [bool(b)] * int(counts_22[a, b])
    order = np.random.default_rng(0).permutation(len(labels))
    names = [f"class {k}" for k in range(len(counts_K22))]
    labels_N = np.asarray(labels, dtype=int)[order]
    return tuple(  # type: ignore[return-value]
        one_run(labels_N, np.asarray(right, dtype=bool)[order], names, **more)
        for right in (first, second)
    )


def one_run(
    labels_N: NDArray[np.int64], right_N: NDArray[np.bool_], names: Sequence[str], **more: Any
) -> Outcomes:
    """A run under PGD in which these images are right."""
    wrong_N = (labels_N + 1) % max(len(names), 2)
    return run([rows("pgd", labels_N, np.where(right_N, labels_N, wrong_N))], names, **more)


def draw_pair(
    first_K: Any, second_K: Any, n: int, correlation: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Counts K × 2 × 2 of n images a class, drawn with these accuracies and correlation."""
    a, b = np.asarray(first_K, dtype=float), np.asarray(second_K, dtype=float)
    both = a * b + correlation * np.sqrt(a * (1 - a) * b * (1 - b))
    both = np.clip(both, np.maximum(a + b - 1, 0), np.minimum(a, b))
    cells_K4 = np.stack([1 - a - b + both, b - both, a - both, both], axis=1)
    return random.multinomial(n, cells_K4 / cells_K4.sum(axis=1, keepdims=True)).reshape(-1, 2, 2)


def into_folds(counts_K22: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """The same images dealt out to ten folds of each class at random: K × F × 2 × 2."""
    from ferd_eval.metrics.comparison.delta import FOLDS

    folded = np.zeros((len(counts_K22), FOLDS, 2, 2), dtype=np.int64)
    for k, counts_22 in enumerate(counts_K22):
        cell_M = random.permutation(np.repeat(np.arange(4), counts_22.reshape(4)))
        np.add.at(folded[k].reshape(FOLDS, 4), (np.arange(cell_M.size) % FOLDS, cell_M), 1)
    return folded
