"""The gap between two attacks on the same images, and how sure it is."""

import numpy as np
import pytest
from scipy import stats

from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.sanity.attack_gap import attack_gap
from tests.eval.metrics.simulated_run import rows, run


def paired(n, both, first_only, second_only):
    return Paired(*(np.atleast_1d(part) for part in (n, both, first_only, second_only)))


def test_images_are_counted_by_class_and_by_who_left_them_right():
    labels = [0, 0, 0, 1, 1, 3]
    pgd = rows("pgd", labels, [0, 0, 1, 1, 0, 3], clean=labels)
    aa = rows("aa", labels[:5], [0, 1, 0, 1, 0], clean=labels[:5])  # the last image is missing
    pair = Paired.of(run([pgd, aa], "abcd"), "pgd", "aa")
    assert pair.n_K.tolist() == [3, 2, 0, 0]
    assert pair.both_K.tolist() == [1, 1, 0, 0]
    assert pair.first_only_K.tolist() == [1, 0, 0, 0]
    assert pair.second_only_K.tolist() == [1, 0, 0, 0]
    gap = attack_gap(pair, "pgd", "aa", None, tuple("abcd"))
    assert [each.gap for each in gap.per_class] == [0, 0, None, None]
    assert gap.per_class[3].interval95 is None
    assert (gap.overall.n, gap.overall.first, gap.overall.second) == (5, 0.6, 0.6)


def test_for_many_images_the_interval_is_the_normal_one():
    n, b, c = 200_000, 30_000, 10_000
    low, high = paired(n, 100_000, b, c).gap_interval()
    se = np.sqrt(b + c - (b - c) ** 2 / n) / n
    assert low[0] == pytest.approx(0.1 - stats.norm.ppf(0.975) * se, abs=1e-4)
    assert high[0] == pytest.approx(0.1 + stats.norm.ppf(0.975) * se, abs=1e-4)


def test_the_interval_is_the_published_one():
    """Bentur et al. (2009) as in Fagerland, Lydersen & Laake (2014): −0.517 to −0.026."""
    low, high = paired(21, 1, 1, 7).gap_interval()
    assert (low[0], high[0]) == pytest.approx((-0.517, -0.026), abs=5e-4)
    swapped_low, swapped_high = paired(21, 1, 7, 1).gap_interval()
    assert (swapped_low[0], swapped_high[0]) == pytest.approx((-high[0], -low[0]))


@pytest.mark.parametrize("broken", [0, 1, 7, 20])
def test_where_the_stronger_breaks_all_that_the_weaker_does_its_end_is_wilsons(broken):
    _, high = paired(20, 20 - broken, broken, 0).gap_interval()
    expected = stats.binomtest(broken, 20).proportion_ci(method="wilson")
    assert high[0] == pytest.approx(expected.high, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "both", "first_only", "second_only"),
    [(20, 0.4, 0.05, 0.0), (50, 0.3, 0.1, 0.02), (100, 0.5, 0.02, 0.0), (1000, 0.45, 0.03, 0.001)],
)
def test_intervals_cover(n, both, first_only, second_only):
    generator, repeats = np.random.default_rng(0), 4000
    shares = [both, first_only, second_only, 1 - both - first_only - second_only]
    a, b, c, _ = generator.multinomial(n, shares, repeats).T
    pair, truth = Paired(np.full(repeats, n), a, b, c), first_only - second_only
    low, high = pair.gap_interval()
    assert ((low <= truth) & (truth <= high)).mean() > 0.93
    below = (pair.gap_at_least(0.01) <= truth).mean()
    assert below >= 0.99 - 3 * np.sqrt(0.01 * 0.99 / repeats)


def test_the_limit_a_warning_rests_on_needs_images():
    assert paired(3, 0, 3, 0).gap_at_least(0.01) < 0.1
    assert paired(300, 0, 300, 0).gap_at_least(0.01) > 0.9
    assert np.isnan(paired(0, 0, 0, 0).gap_at_least(0.01))
