"""One method against another, several networks trained of each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from ferd_eval.errors import UserError
from ferd_eval.metrics import Verdict, compare_methods
from ferd_eval.metrics.comparison.checkpoints import holm
from tests.eval.metrics.simulated_pair import one_run

NAMES = ("a", "b", "c", "d")


def class_runs(states, n=30):
    """Each class of each run is right on all of its images, or on none."""
    labels = np.repeat(np.arange(4), n)
    return [one_run(labels, np.array(state, dtype=bool)[labels], NAMES) for state in states]


FIRST = [(1, 1, 0, 0), (1, 0, 0, 0), (1, 1, 1, 0)]
SECOND = [(1, 1, 1, 0), (1, 1, 1, 0), (1, 1, 0, 1)]


def t_interval(differences, error, freedom):
    half = stats.t.ppf(0.975, freedom) * error
    return differences - half, differences + half


@pytest.mark.parametrize("by_seed", [False, True])
def test_where_images_contribute_nothing_it_is_the_plain_t_interval(by_seed):
    found = compare_methods(class_runs(FIRST), class_runs(SECOND), "pgd", by_seed=by_seed)
    first_SK, second_SK = np.array(FIRST, dtype=float), np.array(SECOND, dtype=float)
    first, second = first_SK.mean(axis=1), second_SK.mean(axis=1)
    if by_seed:
        reference = stats.ttest_rel(second, first)
        expected = reference.confidence_interval(0.95)
    else:  # Welch's error, with the degrees of freedom of the side with fewer seeds
        error = np.sqrt(first.var(ddof=1) / 3 + second.var(ddof=1) / 3)
        expected = t_interval(second.mean() - first.mean(), error, 2)
    assert found.average.value == pytest.approx(second.mean() - first.mean())
    assert found.average.interval95 == pytest.approx(tuple(expected))
    assert (found.seeds, found.n) == ((3, 3), 120)
    nsd_S = [p.std(axis=1) / p.mean(axis=1) for p in (first_SK, second_SK)]
    assert found.nsd.value == pytest.approx(nsd_S[1].mean() - nsd_S[0].mean())
    assert found.nsd_raw == pytest.approx([side.mean() for side in nsd_S])


def test_each_class_has_its_own_t_test_and_holm():
    first, second = class_runs(FIRST), class_runs(SECOND)
    found = compare_methods(first, second, "pgd", by_seed=True)
    differences_SK = np.array(SECOND, dtype=float) - np.array(FIRST, dtype=float)
    p_K = [
        stats.ttest_1samp(each, 0).pvalue if each.std() else (1.0 if each.mean() == 0 else 0.0)
        for each in differences_SK.T
    ]
    assert [each.p for each in found.per_class] == pytest.approx(p_K)
    assert [each.p_holm for each in found.per_class] == pytest.approx(holm(np.array(p_K)))
    for each, difference_S in zip(found.per_class, differences_SK.T, strict=True):
        error = difference_S.std(ddof=1) / np.sqrt(3)
        assert each.interval95 == pytest.approx(t_interval(difference_S.mean(), error, 2))


def test_the_images_add_to_the_variance_of_the_seeds():
    """Networks that are one and the same: only the choice of images is left."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 200)
    a, b = random.random(800) < 0.5, random.random(800) < 0.6
    first, second = ([one_run(labels, right, NAMES) for _ in range(3)] for right in (a, b))
    found = compare_methods(first, second, "pgd", by_seed=False).average
    difference = b.astype(float) - a
    within = np.mean([difference[labels == k].var() for k in range(4)])
    half = stats.t.ppf(0.975, 2) * np.sqrt(within / 800)
    assert found.interval95[1] - found.value == pytest.approx(half, rel=0.12)


def test_pairs_take_out_what_the_seed_decides():
    seeds = [(1, 0, 0, 0), (1, 1, 1, 0), (1, 1, 0, 0)]
    same = class_runs(seeds)
    paired = compare_methods(same, same, "pgd", by_seed=True)
    apart = compare_methods(same, same, "pgd", by_seed=False)
    assert paired.average.interval95 == (0, 0)
    assert apart.average.interval95[1] > 0.2
    assert paired.verdict == apart.verdict == Verdict.INDISTINGUISHABLE


def test_swapping_the_sides_mirrors_the_intervals():
    first, second = drawn_runs(3, np.random.default_rng(1)), drawn_runs(4, np.random.default_rng(1))
    found = compare_methods(first, second, "pgd", by_seed=False)
    turned = compare_methods(second, first, "pgd", by_seed=False)
    for name in ("average", "worst_class", "worst_10pct", "sd", "nsd"):
        one, other = getattr(found, name), getattr(turned, name)
        assert one.value == pytest.approx(-other.value)
    low, high = turned.average.interval95
    # The resamples are drawn alike whoever comes first.
    assert found.average.interval95 == pytest.approx((-high, -low))
    low, high = turned.worst_class.interval95
    assert found.worst_class.interval95 == pytest.approx((-high, -low))


def test_the_same_question_has_the_same_answer():
    runs = drawn_runs(6, np.random.default_rng(2))
    first, second = runs[:3], runs[3:]
    once = compare_methods(first, second, "pgd", by_seed=True)
    assert once == compare_methods(first, second, "pgd", by_seed=True)


@pytest.mark.parametrize(
    ("first", "second", "by_seed", "words"),
    [
        (2, 3, False, "at least 3 seeds a side, given are 2 and 3"),
        (3, 1, False, "given are 3 and 1"),
        (3, 4, True, "need as many runs, given are 3 and 4"),
    ],
)
def test_too_few_or_unequal_seeds_are_refused(first, second, by_seed, words):
    runs = class_runs(FIRST * 2)
    with pytest.raises(UserError, match=words):
        compare_methods(runs[:first], runs[:second], "pgd", by_seed=by_seed)


def test_other_images_in_any_run_are_refused():
    runs = class_runs(FIRST)
    with pytest.raises(UserError, match="not scored on the same images"):
        compare_methods(runs, [*runs[:2], class_runs(FIRST, n=29)[0]], "pgd", by_seed=False)


def test_a_class_without_images_has_no_value():
    labels = np.repeat([0, 1, 3], 30)
    random = np.random.default_rng(0)
    runs = [one_run(labels, random.random(90) < 0.5, NAMES) for _ in range(6)]
    found = compare_methods(runs[:3], runs[3:], "pgd", by_seed=False)
    assert (found.per_class[2].n, found.per_class[2].value, found.per_class[2].p_holm) == (
        0, None, None,
    )  # fmt: skip
    assert found.per_class[3].value is not None
    assert found.worst_class.interval95 is not None


@pytest.mark.parametrize("by_seed", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "end"),
    [
        ([(1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 0)],) * 2 + (0.0,),
        ([(0, 0, 0, 0)] * 3, [(0, 0, 0, 0)] * 3, 0.0),
        ([(1, 1, 1, 1)] * 3, [(1, 1, 1, 1)] * 3, 1.0),
    ],
)
def test_what_never_varies_has_no_interval_and_hides_no_difference_of_nothing(
    first, second, end, by_seed
):
    found = compare_methods(class_runs(first), class_runs(second), "pgd", by_seed=by_seed)
    lowest = found.worst_class
    assert (lowest.first, lowest.second, lowest.value) == (end, end, 0.0)
    assert (lowest.interval95, lowest.detectable) == (None, None)
    assert found.verdict == Verdict.INDISTINGUISHABLE


def test_no_interval_of_accuracies_goes_beyond_what_a_difference_can_be():
    first, second = [(1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)], [(1, 1, 1, 1)] * 2 + [(0, 0, 0, 1)]
    found = compare_methods(class_runs(first), class_runs(second), "pgd", by_seed=False)
    for delta in (found.average, found.worst_class, found.worst_10pct):
        low, high = delta.interval95
        assert -1 <= low <= delta.value <= high <= 1
    assert found.average.interval95[1] == 1


def drawn_runs(count, random, n=60, spread=0.03):
    """Networks of one method: an image hard for one is hard for the others."""
    labels = np.repeat(np.arange(4), n)
    hardness_N = random.normal(size=len(labels))
    runs = []
    for _ in range(count):
        own_K = np.clip(np.array([0.3, 0.45, 0.6, 0.7]) + random.normal(0, spread, 4), 0.02, 0.98)
        mixed_N = np.sqrt(0.6) * hardness_N + np.sqrt(0.4) * random.normal(size=len(labels))
        runs.append(one_run(labels, mixed_N < ndtri(own_K)[labels], NAMES))
    return runs


def test_equal_methods_of_three_seeds_are_seldom_told_apart():
    """Two-sided 5 %: more than this many of 40 would be an accident of one in a thousand."""
    random, wrong, repeats = np.random.default_rng(5), Counter(), 40
    for _ in range(repeats):
        runs = drawn_runs(6, random)
        found = compare_methods(runs[:3], runs[3:], "pgd", by_seed=False)
        for name in ("average", "worst_class", "nsd"):
            low, high = getattr(found, name).interval95
            wrong[name] += not low <= 0 <= high
        wrong["classes"] += bool(found.better or found.worse)
    most = stats.binom.isf(0.001, repeats, 0.05)
    assert all(count <= most for count in wrong.values()), wrong
