"""Intervals against scipy.stats, and their coverage computed exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from ferd_eval.metrics.intervals import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    simultaneous,
    wilson,
)

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(drawn: tuple[int, int], confidence: float) -> None:
    correct, n = drawn
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    low, high = wilson([correct], [n], confidence)
    np.testing.assert_allclose([low[0], high[0]], expected, atol=1e-12)


@given(counts)
def test_the_exact_lower_limit_is_that_of_scipy(drawn: tuple[int, int]) -> None:
    correct, n = drawn
    expected = binomtest(correct, n, alternative="greater").proportion_ci(0.95, method="exact").low
    np.testing.assert_allclose(clopper_pearson_lower([correct], [n]), [expected], atol=1e-12)


@given(counts)
def test_the_exact_upper_limit_is_that_of_scipy(drawn: tuple[int, int]) -> None:
    correct, n = drawn
    expected = binomtest(correct, n, alternative="less").proportion_ci(0.95, method="exact").high
    np.testing.assert_allclose(clopper_pearson_upper([correct], [n]), [expected], atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.lists(counts, min_size=1, max_size=8), st.sampled_from([0.9, 0.95]))
def test_simultaneous_intervals_are_exact_ones_at_a_share_of_the_level(
    drawn: list[tuple[int, int]], confidence: float
) -> None:
    correct, n = zip(*drawn, strict=True)
    low, high = simultaneous([*correct, 0], [*n, 0], confidence)
    assert np.isnan([low[-1], high[-1]]).all()
    for i, (k, of) in enumerate(drawn):
        each = 1 - (1 - confidence) / len(drawn)
        expected = binomtest(k, of).proportion_ci(each, method="exact")
        np.testing.assert_allclose([low[i], high[i]], expected, atol=1e-9)


@pytest.mark.parametrize("p_K", [(0.5,) * 5, (0.03, 0.1, 0.5, 0.9, 0.97)])
def test_simultaneous_intervals_cover_all_classes_at_once(p_K: tuple[float, ...]) -> None:
    n, k = 60, np.arange(61)
    covered = 1.0
    for p in p_K:
        ends = [simultaneous([each] * 5, [n] * 5) for each in k]
        inside = [low[0] <= p <= high[0] for low, high in ends]
        covered *= binom.pmf(k, n, p)[inside].sum()
    assert 0.95 <= covered < 0.995


def test_ends_are_exactly_0_and_1_and_a_class_without_images_has_none() -> None:
    low, high = wilson([0, 7, 0], [7, 7, 0])
    assert low[0] == 0.0
    assert high[1] == 1.0
    assert np.isnan([low[2], high[2]]).all()
    lower = clopper_pearson_lower([0, 0], [7, 0])
    assert lower[0] == 0.0
    assert np.isnan(lower[1])
    upper = clopper_pearson_upper([7, 0], [7, 0])
    assert upper[0] == 1.0
    assert np.isnan(upper[1])


@pytest.mark.parametrize("p", [0.02, 0.2, 0.5, 0.77, 0.97])
@pytest.mark.parametrize("n", [10, 50, 1000])
def test_the_exact_lower_limit_covers_95_percent(p: float, n: int) -> None:
    k = np.arange(n + 1)
    assert binom.pmf(k, n, p)[clopper_pearson_lower(k, np.full(n + 1, n)) <= p].sum() >= 0.95


@pytest.mark.parametrize("n", [50, 1000])
def test_the_floor_needs_no_correction_for_many_classes(n: int) -> None:
    """The hardest case: one class at p, the others always right (Berger 1982)."""
    k, p = np.arange(n + 1), 0.4
    others = clopper_pearson_lower(np.full(99, n), np.full(99, n)).min()
    floor = np.minimum(clopper_pearson_lower(k, np.full(n + 1, n)), others)
    covered = binom.pmf(k, n, p)[floor <= p].sum()
    assert 0.95 <= covered < 0.98  # valid, and not by being needlessly wide
