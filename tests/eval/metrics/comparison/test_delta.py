"""Differences of the lowest classes and of the spread: cover, invariance, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ferd_eval.metrics.comparison.delta import (
    BURN,
    FOLDS,
    Delta,
    lowest_delta,
    lowest_mean,
    lowest_mean_held_out,
    spread_delta,
)
from tests.eval.metrics.simulated_pair import draw_pair, into_folds

ROBUST = np.array([0.62, 0.75, 0.38, 0.24, 0.36, 0.40, 0.55, 0.60, 0.70, 0.65])
ONE_LOW = np.where(np.arange(10) == 0, 0.5, 0.7)

DESIGNS = {
    "a robust profile and itself": (ROBUST, ROBUST, 100, 0.6),
    "ten equal classes, which bias the minimum most": (np.full(10, 0.5), np.full(10, 0.5), 100, 0),
    "ten equal classes and one that stands out as low": (np.full(10, 0.5), ONE_LOW, 200, 0.6),
}

REPEATS = 400


def least_held(level: float) -> float:
    """Cover below this is an accident of one in a thousand, were it `level`."""
    return float(stats.binom.ppf(0.001, REPEATS, level)) / REPEATS


@pytest.mark.parametrize(("first", "second", "n", "correlation"), DESIGNS.values(), ids=DESIGNS)
def test_intervals_of_the_lowest_classes_cover(first, second, n, correlation):
    random = np.random.default_rng(1)
    held = np.zeros(2)
    truths = [np.sort(second)[:k].mean() - np.sort(first)[:k].mean() for k in (1, 3)]
    for _ in range(REPEATS):
        counts = into_folds(draw_pair(first, second, n, correlation, random), random)
        for i, k in enumerate((1, 3)):
            low, high = lowest_delta(counts, k).interval95
            held[i] += low <= truths[i] <= high
    assert (held / REPEATS >= least_held(0.95)).all(), held / REPEATS


@pytest.mark.parametrize(("first", "second", "n", "correlation"), DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize("normalised", [False, True])
def test_intervals_of_the_spread_cover(first, second, n, correlation, normalised):
    random = np.random.default_rng(2)
    of = [p.std() / (p.mean() if normalised else 1) for p in (first, second)]
    held = 0
    for _ in range(REPEATS):
        counts = draw_pair(first, second, n, correlation, random)
        low, high = spread_delta(counts, normalised=normalised).interval95
        held += low - 1e-12 <= of[1] - of[0] <= high + 1e-12
    assert held / REPEATS >= least_held(0.95)


def test_an_ordinary_interval_would_fail_these_tests():
    """The plain one, of the observed lowest classes, misses what they are too low by."""
    first, second, n, correlation = DESIGNS["ten equal classes and one that stands out as low"]
    random, held = np.random.default_rng(1), 0
    for _ in range(REPEATS):
        counts = draw_pair(first, second, n, correlation, random)
        p, q = (counts.sum(axis=axis)[:, 1].astype(float) / n for axis in (2, 1))
        i, j = p.argmin(), q.argmin()
        half = 1.96 * np.sqrt((p[i] * (1 - p[i]) + q[j] * (1 - q[j])) / n)
        held += abs(q[j] - p[i] - 0.0) <= half
    assert held / REPEATS < least_held(0.95)


def test_pairing_makes_intervals_narrow():
    random = np.random.default_rng(3)
    widths = {}
    for correlation in (0.0, 0.9):
        deltas = [
            lowest_delta(into_folds(draw_pair(ROBUST, ROBUST, 300, correlation, random), random), 1)
            for _ in range(20)
        ]
        widths[correlation] = np.mean([high - low for low, high in (d.interval95 for d in deltas)])
    assert widths[0.9] < 0.7 * widths[0.0]


@pytest.mark.parametrize("k", [1, 3])
def test_the_order_of_classes_is_of_no_account(k):
    random = np.random.default_rng(4)
    # So many images that no two classes tie in any choice; ties fall to the first of the order.
    counts = into_folds(draw_pair(ROBUST, ROBUST[::-1], 3007, 0.5, random), random)
    for _ in range(5):
        order = random.permutation(10)
        for one, other in (
            (lowest_delta(counts, k), lowest_delta(counts[order], k)),
            (
                spread_delta(counts.sum(axis=1), normalised=True),
                spread_delta(counts.sum(axis=1)[order], normalised=True),
            ),
        ):
            assert one.value == pytest.approx(other.value)
            assert one.interval95 == pytest.approx(other.interval95)


def test_the_interval_holds_the_estimate_and_says_what_is_detectable():
    random = np.random.default_rng(5)
    for _ in range(50):
        counts = into_folds(draw_pair(ROBUST, ROBUST, 50, 0.5, random), random)
        found = lowest_delta(counts, 1)
        low, high = found.interval95
        assert low <= found.value <= high
        factor = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / (2 * stats.norm.ppf(0.975))
        assert found.detectable == pytest.approx(factor * (high - low), rel=0.3)


def test_what_is_held_out_is_no_lower_and_what_is_picked_no_higher():
    """Equal classes: the truth is 0.5, the picked minimum is below, the held-out one is not."""
    random = np.random.default_rng(6)
    n_KF = np.full((10, FOLDS), 10)
    right = random.binomial(10, 0.5, (2000, 10, FOLDS))
    picked, held_out = lowest_mean(right, n_KF, 1), lowest_mean_held_out(right, n_KF, 1)
    error = held_out.std() / np.sqrt(2000)
    assert picked.mean() < 0.5 - 0.05
    assert abs(held_out.mean() - 0.5) < 4 * error
    each = np.array([lowest_mean_held_out(one, n_KF, 1) for one in right[:20]])
    assert each == pytest.approx(held_out[:20])


def test_held_out_classes_are_chosen_on_the_folds_before():
    """By hand: class 0 is lowest until fold 5, class 1 from then on."""
    n_KF = np.full((2, FOLDS), 10)
    right_KF = np.array([[2] * 5 + [10] * 5, [5] * FOLDS])
    expected = []
    for fold in range(BURN, FOLDS):
        chosen = right_KF[:, :fold].sum(axis=1).argmin()
        expected.append(right_KF[chosen, fold] / 10)
    assert lowest_mean_held_out(right_KF, n_KF, 1) == pytest.approx(np.mean(expected))
    assert lowest_mean_held_out(right_KF, n_KF, 2) == pytest.approx(
        (right_KF[:, BURN:] / 10).mean()
    )


def test_too_few_images_have_a_difference_but_no_interval():
    counts = np.array([[[1, 0], [0, 0]], [[3, 2], [1, 4]]])
    assert spread_delta(counts, normalised=False) == Delta(None, None, None, None, None)
    random = np.random.default_rng(7)
    few = into_folds(np.array([[[3, 2], [1, 3]], [[30, 20], [10, 40]]]), random)
    found = lowest_delta(few, 1)
    assert found.value is not None
    assert found.interval95 is None
    assert found.detectable is None
    one = into_folds(np.array([[[1, 0], [0, 0]], [[30, 20], [10, 40]]]), random)
    assert lowest_delta(one, 1).interval95 is None
    nothing = np.zeros((3, FOLDS, 2, 2), dtype=int)
    assert lowest_delta(nothing, 1) == Delta(None, None, None, None, None)
    assert spread_delta(nothing.sum(axis=1), normalised=True).value is None


def test_where_nobody_is_right_there_is_a_spread_but_no_nsd():
    nobody = np.array([[[50, 0], [0, 0]]] * 3)
    assert spread_delta(nobody, normalised=True).value is None
    found = spread_delta(nobody, normalised=False)
    assert (found.first, found.second, found.value) == (0, 0, 0)
    half = np.array([[[30, 20], [0, 0]], [[10, 40], [0, 0]], [[25, 25], [0, 0]]])
    one_sided = spread_delta(half, normalised=True)
    assert one_sided.first is None
    assert one_sided.second is not None
    assert one_sided.value is None


def test_a_difference_says_on_which_side_of_zero_it_lies():
    assert Delta(0, 1, 1, (0.1, 2), 1).above_zero
    assert Delta(0, -1, -1, (-2, -0.1), 1).below_zero
    for ends in ((0.0, 1.0), (-1.0, 0.0), None):
        delta = Delta(0, 0, 0, ends, None)
        assert not delta.above_zero
        assert not delta.below_zero
