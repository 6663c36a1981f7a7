"""Spread over classes against definitions written out by hand."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import ceil, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from ferd_eval.metrics.dispersion import (
    debiased_nsd,
    debiased_sd,
    debiased_variance,
    gap,
    gini,
    lowest_percent,
    normalised_sd,
    standard_deviation,
)

accuracies = st.lists(st.integers(0, 50).map(lambda k: k / 50), min_size=1, max_size=210)


@given(accuracies)
def test_every_figure_is_its_definition(values: list[float]) -> None:
    mean = sum(values) / len(values)
    sd = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    assert standard_deviation(values) == pytest.approx(sd, abs=1e-12)
    assert gap(values) == max(values) - min(values)
    lowest = sorted(values)[: ceil(Fraction(len(values), 10))]
    assert lowest_percent(values) == pytest.approx(sum(lowest) / len(lowest))
    if mean == 0:
        assert isnan(normalised_sd(values))
        assert isnan(gini(values))
        return
    pairs = np.abs(np.subtract.outer(values, values)).mean()
    assert normalised_sd(values) == pytest.approx(sd / mean, abs=1e-12)
    assert gini(values) == pytest.approx(pairs / (2 * mean), abs=1e-12)
    if len(values) > 1:
        sample = sd * (len(values) / (len(values) - 1)) ** 0.5
        assert normalised_sd(values, ddof=1) == pytest.approx(sample / mean, abs=1e-12)


@given(accuracies)
def test_classes_without_images_change_nothing(values: list[float]) -> None:
    for figure in (gap, gini, lowest_percent, normalised_sd, standard_deviation):
        np.testing.assert_equal(figure([nan, *values, nan]), figure(values))


@pytest.mark.parametrize(
    ("classes", "lowest"), [(1, 1), (9, 1), (10, 1), (11, 2), (100, 10), (101, 11), (200, 20)]
)
def test_the_worst_tenth_is_counted_in_integers(classes: int, lowest: int) -> None:
    values = np.arange(classes)[::-1] / 1000
    assert lowest_percent(values) == pytest.approx(np.arange(lowest).mean() / 1000)


def test_one_class_has_no_spread_and_no_sample_deviation() -> None:
    assert normalised_sd([0.4]) == 0.0
    assert isnan(normalised_sd([0.4], ddof=1))
    assert gini([0.4]) == 0.0


def test_gini_is_highest_when_one_class_has_everything() -> None:
    assert gini([0, 0, 0, 7]) == pytest.approx(3 / 4)
    assert gini([3, 3, 3]) == 0.0


def test_nothing_at_all_has_no_value() -> None:
    for figure in (gap, gini, lowest_percent, normalised_sd, standard_deviation):
        assert isnan(figure([]))


def expected_variance(n_K: tuple[int, ...], p_K: tuple[float, ...]) -> float:
    """Mean of the estimate over every possible sample."""
    ways = [range(n + 1) for n in n_K]
    pmf = [binom.pmf(np.arange(n + 1), n, p) for n, p in zip(n_K, p_K, strict=True)]
    return sum(
        float(np.prod([chance[k] for chance, k in zip(pmf, counts, strict=True)]))
        * debiased_variance(counts, n_K)
        for counts in product(*ways)
    )


@pytest.mark.parametrize("n_K", [(6, 6, 6), (2, 5, 12)])
@pytest.mark.parametrize("p_K", [(0.5, 0.5, 0.5), (0.1, 0.4, 0.9), (0.0, 1.0, 0.3)])
def test_the_debiased_variance_is_unbiased(n_K: tuple[int, ...], p_K: tuple[float, ...]) -> None:
    assert expected_variance(n_K, p_K) == pytest.approx(np.var(p_K), abs=1e-12)


def test_the_debiased_spread_is_less_than_the_raw_one_and_never_below_0() -> None:
    correct, n = np.array([10, 20, 0, 30]), np.array([50, 50, 0, 60])
    present = np.array([10 / 50, 20 / 50, 30 / 60])
    noise = np.mean([p * (1 - p) / (m - 1) for p, m in zip(present, (50, 50, 60), strict=True)])
    sd = (present.var() - 2 / 3 * noise) ** 0.5
    assert debiased_sd(correct, n) == pytest.approx(sd)
    assert debiased_nsd(correct, n) == pytest.approx(sd / present.mean())
    assert sd < standard_deviation(present)
    assert debiased_sd([5, 5, 5], [10, 10, 10]) == debiased_nsd([5, 5, 5], [10, 10, 10]) == 0.0
    assert debiased_variance([5, 5, 5], [10, 10, 10]) < 0


def test_noise_that_cannot_be_told_leaves_no_debiased_spread() -> None:
    for figure in (debiased_sd, debiased_nsd, debiased_variance):
        assert isnan(figure([1, 5], [1, 10]))
        assert isnan(figure([0, 0], [0, 0]))
    assert isnan(debiased_nsd([0, 0], [10, 10]))
    assert debiased_sd([0, 0], [10, 10]) == 0.0
