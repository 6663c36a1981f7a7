"""Bounds of the lowest class and its like: against scipy, brute force and exact coverage."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, fisher_exact

from ferd_eval.metrics.intervals import (
    gap_interval,
    lowest_percent_interval,
    possibly_worst,
    worst_class_interval,
)

one_class = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
classes = st.lists(one_class, min_size=1, max_size=14).filter(
    lambda drawn: any(n for _, n in drawn)
)
even = st.tuples(st.integers(1, 60), st.integers(1, 25)).flatmap(
    lambda drawn: st.tuples(
        st.just(drawn[0]),
        st.lists(st.integers(0, drawn[0]), min_size=drawn[1], max_size=drawn[1]),
    )
)
INTERVALS = (worst_class_interval, lowest_percent_interval, gap_interval)


def exact(correct: int, n: int, side: float) -> tuple[float, float]:
    """Clopper–Pearson ends with ``side`` outside each, by scipy."""
    if side >= 0.5:
        raise ValueError(side)
    found = binomtest(int(correct), int(n)).proportion_ci(1 - 2 * side, method="exact")
    return float(found.low), float(found.high)


@settings(deadline=None, max_examples=25)
@given(classes)
def test_the_interval_of_the_worst_class_is_its_definition(drawn: list[tuple[int, int]]) -> None:
    present = [(k, n) for k, n in drawn if n]
    low = min(exact(k, n, 0.025)[0] for k, n in present)
    high = min(exact(k, n, 0.025 / len(present))[1] for k, n in present)
    assert worst_class_interval(*zip(*drawn, strict=True)) == pytest.approx((low, high), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(classes)
def test_the_interval_of_the_gap_is_its_definition(drawn: list[tuple[int, int]]) -> None:
    present = [(k, n) for k, n in drawn if n]
    C = len(present)
    apart, at_once = (
        [exact(k, n, side) for k, n in present] for side in (0.0125, 0.0125 / C)
    )  # fmt: skip
    high = max(end[1] for end in apart) - min(end[0] for end in apart)
    low = max(end[0] for end in at_once) - min(end[1] for end in at_once)
    expected = (max(low, 0), high if C > 1 else 0)
    assert gap_interval(*zip(*drawn, strict=True)) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(even)
def test_the_worst_tenth_of_even_classes_is_pooled(drawn: tuple[int, list[int]]) -> None:
    n, correct = drawn
    k = -(-len(correct) // 10)
    pooled = sum(sorted(correct)[:k])
    low = exact(pooled, k * n, 0.025)[0]
    if k > 1 and pooled == 1:
        low = 0.025 / (k * n)
    ends = sorted(exact(c, n, 0.025 / len(correct))[1] for c in correct)[:k]
    found = lowest_percent_interval(correct, [n] * len(correct))
    assert found == pytest.approx((low, np.mean(ends)), abs=1e-9)


def test_the_worst_tenth_of_uneven_classes_takes_a_limit_for_each() -> None:
    correct, n = np.arange(5, 17), np.arange(40, 52)
    low = sorted(exact(k, m, 0.025 / 2)[0] for k, m in zip(correct, n, strict=True))[:2]
    high = sorted(exact(k, m, 0.025 / 12)[1] for k, m in zip(correct, n, strict=True))[:2]
    expected = (np.mean(low), np.mean(high))
    assert lowest_percent_interval(correct, n) == pytest.approx(expected, abs=1e-9)


def by_brute_force(drawn: list[tuple[int, int]], confidence: float) -> set[int]:
    present = [i for i, (_, n) in enumerate(drawn) if n]
    level = (1 - confidence) / max(len(present) - 1, 1)

    def higher(i: int, j: int) -> float:
        tables = [[k, n - k] for k, n in (drawn[i], drawn[j])]
        return float(fisher_exact(tables, alternative="greater").pvalue)

    return {i for i in present if all(higher(i, j) > level for j in present if j != i)}


@settings(deadline=None, max_examples=25)
@given(classes, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_classes_that_may_be_worst_are_those_of_fishers_test(
    drawn: list[tuple[int, int]], confidence: float
) -> None:
    found = possibly_worst(*zip(*drawn, strict=True), confidence)
    assert set(found.tolist()) == by_brute_force(drawn, confidence)
    shares = [drawn[i][0] / drawn[i][1] for i in found]
    assert shares == sorted(shares)


@settings(deadline=None, max_examples=50)
@given(classes, st.randoms(use_true_random=False))
def test_neither_order_nor_empty_classes_matter(
    drawn: list[tuple[int, int]], random: object
) -> None:
    order = list(range(len(drawn)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = [drawn[i] for i in order] + [(0, 0)]
    for interval in INTERVALS:
        kept = interval(*zip(*drawn, strict=True))
        assert interval(*zip(*moved, strict=True)) == pytest.approx(kept, abs=1e-12)
    kept = set(possibly_worst(*zip(*drawn, strict=True)).tolist())
    assert {order[i] for i in possibly_worst(*zip(*moved, strict=True)).tolist()} == kept


@settings(deadline=None, max_examples=50)
@given(classes)
def test_more_confidence_is_wider_and_holds_the_estimate(drawn: list[tuple[int, int]]) -> None:
    correct, n = (np.array(column) for column in zip(*drawn, strict=True))
    shares = np.sort(correct[n > 0] / n[n > 0])
    lowest = shares[: -(-shares.size // 10)].mean()
    seen = (shares[0], lowest, shares[-1] - shares[0])
    for interval, estimate in zip(INTERVALS, seen, strict=True):
        narrow, wide = interval(correct, n, confidence=0.8), interval(correct, n, confidence=0.99)
        assert 0 <= wide[0] <= narrow[0] <= estimate + 1e-12
        assert estimate - 1e-12 <= narrow[1] <= wide[1] <= 1
    few, many = (set(possibly_worst(correct, n, level).tolist()) for level in (0.8, 0.99))
    share_K = np.where(n > 0, correct / np.maximum(n, 1), 2)
    assert {int(i) for i in np.flatnonzero(share_K == share_K.min())} <= few <= many


def test_equal_classes_of_few_images_may_all_be_worst() -> None:
    assert possibly_worst([3] * 10, [5] * 10).tolist() == list(range(10))
    assert possibly_worst([0, 3] * 5, [3] * 10).size == 10


def test_a_class_far_below_stands_alone() -> None:
    assert possibly_worst([900, 100, 880], [1000] * 3).tolist() == [1]


def test_nothing_at_all_has_no_interval_and_one_class_has_no_gap() -> None:
    for interval in INTERVALS:
        assert interval([0, 0], [0, 0]) is None
    assert possibly_worst([0, 0], [0, 0]).tolist() == []
    assert gap_interval([3, 0], [9, 0]) == (0.0, 0.0)
    assert possibly_worst([0, 3], [0, 9]).tolist() == [1]


def lattice(n_K: tuple[int, ...], p_K: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """Every possible outcome of a sample with its probability."""
    chances = [
        [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        for n, p in zip(n_K, p_K, strict=True)
    ]
    return [
        (counts, float(np.prod([chance[k] for chance, k in zip(chances, counts, strict=True)])))
        for counts in product(*(range(n + 1) for n in n_K))
    ]


@pytest.mark.parametrize("n_K", [(9, 9, 9), (4, 9, 14)])
@pytest.mark.parametrize(
    "p_K", [(0.5, 0.5, 0.5), (0.3, 0.3, 0.9), (0.1, 0.5, 0.5), (0.02, 0.03, 0.05), (1.0, 0.9, 0.9)]
)
def test_each_end_covers_at_its_level_by_enumeration(
    n_K: tuple[int, ...], p_K: tuple[float, ...]
) -> None:
    missed = dict.fromkeys(("worst low", "worst high", "gap low", "gap high", "set"), 0.0)
    truly = [i for i, p in enumerate(p_K) if p == min(p_K)]
    set_misses = dict.fromkeys(truly, 0.0)
    for counts, chance in lattice(n_K, p_K):
        low, high = worst_class_interval(counts, n_K)
        missed["worst low"] += chance * (low > min(p_K))
        missed["worst high"] += chance * (high < min(p_K))
        low, high = gap_interval(counts, n_K)
        missed["gap low"] += chance * (low > max(p_K) - min(p_K) + 1e-12)
        missed["gap high"] += chance * (high < max(p_K) - min(p_K) - 1e-12)
        kept = possibly_worst(counts, n_K)
        for i in truly:
            set_misses[i] += chance * (i not in kept)
    assert all(missed[end] <= 0.025 for end in ("worst low", "worst high", "gap low", "gap high"))
    assert max(set_misses.values()) <= 0.05


@pytest.mark.parametrize(
    ("n", "p_K"),
    [
        (1, (0.0, 0.025)),
        (1, (0.0, 0.02515)),
        (3, (0.0, 0.0084)),
        (20, (0.1, 0.6)),
        (20, (0.3, 0.3)),
    ],
)
def test_the_pooled_limit_covers_by_enumeration(n: int, p_K: tuple[float, float]) -> None:
    """The two lowest of eleven classes, the others always right.

    Near the first limit above 0 one success is enough: there a sum of two binomials is *more*
    often above 0 than a binomial of their mean, and the pooled limit alone would miss too often.
    """
    missed = sum(
        chance
        for counts, chance in lattice((n, n), p_K)
        if lowest_percent_interval([*counts, *[n] * 9], [n] * 11)[0] > np.mean(p_K) + 1e-12
    )
    assert missed <= 0.025 + 1e-12


@pytest.mark.parametrize("uneven", [False, True])
def test_the_worst_tenth_is_covered_in_simulation(uneven: bool) -> None:
    random = np.random.default_rng(7)
    p_K = np.repeat([0.35, 0.4, 0.6], (2, 8, 20))
    n_K = random.integers(20, 60, 30) if uneven else np.full(30, 40)
    truth, draws = np.sort(p_K)[:3].mean(), 1000
    below, above = 0, 0
    for correct_K in random.binomial(n_K, p_K, (draws, 30)):
        low, high = lowest_percent_interval(correct_K, n_K)
        below, above = below + (low > truth), above + (high < truth)
    most = binom.ppf(0.9999, draws, 0.025)
    assert below <= most
    assert above <= most
