"""One network against another on the same images."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ferd_eval.errors import UserError
from ferd_eval.metrics import Verdict, compare
from ferd_eval.metrics.comparison.alignment import mismatch, unknown_constants
from ferd_eval.metrics.comparison.checkpoints import holm, mcnemar
from tests.eval.metrics.simulated_pair import draw_pair, from_counts, one_run
from tests.eval.metrics.simulated_run import rows, run

OVERALL = ("average", "worst_class", "worst_10pct", "sd", "nsd")


def drawn(K=10, n=100, seed=0, correlation=0.6, shift=0.0):
    random = np.random.default_rng(seed)
    first_K = random.uniform(0.2, 0.8, K)
    second_K = np.clip(first_K + random.normal(shift, 0.05, K), 0.02, 0.98)
    return draw_pair(first_K, second_K, n, correlation, random)


# Tests


def test_mcnemar_is_the_exact_binomial_test():
    for b in range(12):
        for c in range(12):
            p = mcnemar(np.array([b]), np.array([c]))[0]
            expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
            assert p == pytest.approx(expected, rel=1e-12)
    large = mcnemar(np.array([5000]), np.array([5300]))[0]
    assert large == pytest.approx(stats.binomtest(5000, 10300).pvalue, rel=1e-9)


def test_holm_is_the_published_procedure():
    """Holm (1979): 0.01, 0.04, 0.03, 0.005 are ordered, times 4, 3, 2, 1, never falling."""
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_empty = holm(np.array([0.01, np.nan, 0.04]))
    assert with_empty[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert np.isnan(with_empty[1])
    assert holm(np.array([])).size == 0
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_holm_rejects_what_going_down_the_list_rejects(p):
    """Step by step: the smallest at 5 %/m, the next at 5 %/(m − 1), until one is not rejected."""
    rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
    for i in list(left):
        if p[i] * len(left) > 0.05:
            break
        rejected.add(i)
        left.remove(i)
    assert {i for i, each in enumerate(holm(np.array(p))) if each <= 0.05} == rejected


# Differences


def test_each_difference_is_what_the_tables_say():
    counts = drawn()
    found = compare(*from_counts(counts), "pgd")
    n_K = counts.sum(axis=(1, 2))
    first_K, second_K = counts[:, 1].sum(axis=1) / n_K, counts[:, :, 1].sum(axis=1) / n_K
    assert [each.value for each in found.per_class] == pytest.approx(second_K - first_K)
    assert found.average.value == pytest.approx(second_K.mean() - first_K.mean())
    assert found.worst_class.value == pytest.approx(second_K.min() - first_K.min())
    assert found.worst_class == found.worst_10pct
    assert found.nsd_raw == pytest.approx([p.std() / p.mean() for p in (first_K, second_K)])
    for side, p in ((found.sd.first, first_K), (found.sd.second, second_K)):
        noise = (1 - 1 / 10) * (p * (1 - p) / (n_K - 1)).mean()
        assert side == pytest.approx(np.sqrt(max(p.var() - noise, 0)))
    assert found.nsd.second == pytest.approx(found.sd.second / second_K.mean())
    assert (found.n, found.seeds, found.lowest) == (1000, (1, 1), "worst_class")
    for each, table in zip(found.per_class, counts, strict=True):
        assert each.p == pytest.approx(mcnemar(table[1:, 0], table[:1, 1])[0])
        low, high = each.interval95
        assert low < each.value < high
    assert {*found.better} == {
        each.index for each in found.per_class if each.p_holm <= 0.05 and each.value > 0
    }


def test_for_many_images_the_averages_interval_is_the_normal_one():
    counts = np.array([[[30_000, 9_000], [7_000, 54_000]]] * 2)
    found = compare(*from_counts(counts), "pgd").average
    n, b, c = 200_000, 14_000, 18_000
    error = np.sqrt(b + c - (c - b) ** 2 / n) / n
    assert found.interval95 == pytest.approx(
        (0.02 - 1.95996 * error, 0.02 + 1.95996 * error), abs=1e-5
    )
    assert found.detectable == pytest.approx((1.95996 + 0.84162) * error, rel=1e-3)


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 60))
@settings(max_examples=25, deadline=None)
def test_swapping_the_sides_mirrors_everything(seed, K, n):
    first, second = from_counts(drawn(K, n, seed))
    found, turned = compare(first, second, "pgd"), compare(second, first, "pgd")
    for name in OVERALL:
        one, other = getattr(found, name), getattr(turned, name)
        assert (one.first, one.second) == (other.second, other.first)
        assert one.value is None or one.value == -other.value
        assert (one.interval95 is None) == (other.interval95 is None)
        if one.interval95:
            low, high = other.interval95
            assert one.interval95 == pytest.approx((-high, -low), abs=1e-9)
            assert one.detectable == pytest.approx(other.detectable)
    for one, other in zip(found.per_class, turned.per_class, strict=True):
        assert one.value == -other.value
        assert (one.p, one.p_holm) == (other.p, other.p_holm)
    assert (found.better, found.worse) == (turned.worse, turned.better)
    if found.nsd_split:
        assert found.nsd_split.by_mean == pytest.approx(-turned.nsd_split.by_mean)
        assert found.nsd_split.by_spread == pytest.approx(-turned.nsd_split.by_spread)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_parts_of_the_nsds_difference_add_up(seed):
    found = compare(*from_counts(drawn(10, 200, seed)), "pgd")
    if found.nsd_split is not None:
        together = found.nsd_split.by_spread + found.nsd_split.by_mean
        assert together == pytest.approx(found.nsd.value, abs=1e-12)


def test_the_parts_are_nothing_where_only_the_other_differs():
    first_K = np.linspace(0.2, 0.4, 10)
    scaled = compare(*from_counts(_large(first_K, 2 * first_K)), "pgd")
    assert scaled.nsd.value == pytest.approx(0, abs=2e-3)
    assert scaled.nsd_split.by_spread == pytest.approx(-scaled.nsd_split.by_mean, abs=2e-3)
    moved = compare(*from_counts(_large(first_K, first_K + 0.3)), "pgd")
    assert moved.nsd_split.by_spread == pytest.approx(0, abs=2e-3)
    assert moved.nsd_split.by_mean == pytest.approx(moved.nsd.value, abs=2e-3)
    assert moved.nsd.value < 0


def test_equal_classes_cannot_be_split():
    flat = np.array([[[40, 10], [10, 40]]] * 5)
    assert compare(*from_counts(flat), "pgd").nsd_split is None


# Which images


def test_other_images_are_refused():
    first, second = from_counts(drawn(3, 20))
    fewer = replace(second, table=second.table.iloc[:-1])
    with pytest.raises(UserError, match="not scored on the same images"):
        compare(first, fewer, "pgd")
    moved = replace(second, table=second.table.assign(index=second.table["index"] + 1))
    with pytest.raises(UserError, match="not scored on the same images"):
        compare(first, moved, "pgd")
    relabelled = second.table.copy()
    relabelled["label"] = relabelled["label"].to_numpy()[::-1]
    with pytest.raises(UserError, match="not scored on the same images"):
        compare(first, replace(second, table=relabelled), "pgd")
    dataset = {**second.manifest["dataset"], "fingerprint": "ef" * 32}
    with pytest.raises(UserError, match="not scored on the same images"):
        compare(first, replace(second, manifest={**second.manifest, "dataset": dataset}), "pgd")
    named = {**second.manifest["dataset"], "class_names": ["a", "b", "c"]}
    with pytest.raises(UserError, match="other classes"):
        compare(first, replace(second, manifest={**second.manifest, "dataset": named}), "pgd")
    twice = replace(second, table=pd.concat([second.table, second.table[:1]]))
    with pytest.raises(UserError, match="more than once"):
        compare(first, twice, "pgd")
    with pytest.raises(UserError, match="not scored under aa"):
        compare(first, second, "aa")


def test_the_order_of_rows_is_of_no_account():
    first, second = from_counts(drawn(4, 30))
    shuffled = replace(second, table=second.table.sample(frac=1, random_state=1))
    assert compare(first, shuffled, "pgd") == compare(first, second, "pgd")


def test_under_a_targeted_attack_an_image_is_right_whatever_is_aimed_at():
    labels, names = np.repeat([0, 1, 2], 20), "abc"

    def aimed(fallen: set[int]):
        tables = []
        for shift in (1, 2):
            hit = np.array([i in fallen and shift == 1 + i % 2 for i in range(60)])
            aims = (labels + shift) % 3
            tables.append(rows("targeted", labels, np.where(hit, aims, labels), targets=aims))
        return run(tables, names)

    found = compare(aimed({0, 1, 2, 20}), aimed({0, 25, 26, 40}), "targeted")
    assert [each.first for each in found.per_class] == pytest.approx([17 / 20, 19 / 20, 1])
    assert [each.second for each in found.per_class] == pytest.approx([19 / 20, 18 / 20, 19 / 20])
    assert found.n == 60
    assert found.per_class[0].p == pytest.approx(stats.binomtest(0, 2).pvalue)


def test_classes_without_images_have_no_value_and_change_nothing():
    counts = drawn(4, 40)
    found = compare(*from_counts(counts), "pgd")
    with_empty = np.insert(counts, 2, 0, axis=0)
    wider = compare(*from_counts(with_empty), "pgd")
    empty = wider.per_class[2]
    assert (empty.n, empty.first, empty.value, empty.interval95, empty.p, empty.p_holm) == (
        0, None, None, None, None, None,
    )  # fmt: skip
    for name in OVERALL:
        assert getattr(wider, name).value == pytest.approx(getattr(found, name).value)
    assert wider.sd.interval95 == pytest.approx(found.sd.interval95)
    assert [p.p_holm for p in wider.per_class if p.n] == pytest.approx(
        [p.p_holm for p in found.per_class]
    )


@pytest.mark.parametrize("K", [1, 2])
def test_a_class_or_two(K):
    found = compare(*from_counts([[[10, 30], [5, 55]]] * K), "pgd")
    assert found.verdict == Verdict.DOMINATES
    assert found.worst_class.value == pytest.approx(0.25)
    assert found.average.value == pytest.approx(0.25)
    if K == 1:
        assert (found.sd.first, found.nsd.first) == (0, 0)
    assert len(found.per_class) == K


def test_from_a_hundred_classes_on_the_lowest_tenth_decides():
    random = np.random.default_rng(0)
    below, from_on = (draw_pair([0.5] * K, [0.5] * K, 20, 0.6, random) for K in (99, 100))
    assert compare(*from_counts(below), "pgd").lowest == "worst_class"
    assert compare(*from_counts(from_on), "pgd").lowest == "worst_10pct"
    emptied = np.insert(below, 5, 0, axis=0)  # a hundred classes, one of them without images
    assert compare(*from_counts(emptied), "pgd").lowest == "worst_class"


def test_no_images_at_all_are_indistinguishable():
    empty = one_run(np.array([], dtype=int), np.array([], dtype=bool), "ab")
    manifest = {**empty.manifest, "attacks": {"pgd": {}}}
    found = compare(replace(empty, manifest=manifest), replace(empty, manifest=manifest), "pgd")
    assert found.average.value is None
    assert found.worst_class.value is None
    assert found.verdict == Verdict.INDISTINGUISHABLE


def _large(first_K, second_K, n=100_000):
    """Independent accuracies without sampling noise."""
    cells = [
        [[(1 - a) * (1 - b), (1 - a) * b], [a * (1 - b), a * b]]
        for a, b in zip(first_K, second_K, strict=True)
    ]
    return np.rint(np.array(cells) * n / 20).astype(int)


# Which attack


def test_constants_that_differ_are_found_whichever_run_it_is():
    def with_constants(**constants):
        return run([rows("pgd", [0, 1], [0, 1])], "ab", {"pgd": constants})

    same = with_constants(eps=0.1, eps_text="0.1", steps=20)
    assert mismatch([same, with_constants(eps=0.1, steps=20)], "pgd") is None
    assert mismatch([same, same], "pgd") is None
    for other, expected in (
        (with_constants(eps=0.1, steps=50), ("steps", 20, 50)),
        (with_constants(eps=0.2, eps_text="0.2", steps=20), ("eps", 0.1, 0.2)),
        (with_constants(eps=0.1, steps=20, kappa=50.0), ("kappa", None, 50.0)),
        (with_constants(eps=0.1), ("steps", 20, None)),
    ):
        for order in permutations([same, same, other]):
            found = mismatch(order, "pgd")
            assert found is not None
            assert found.constant == expected[0]
            assert {found.here, found.there} == {*expected[1:]}
        last = mismatch([same, same, other], "pgd")
        assert (last.place, last.here, last.there) == (2, *expected[1:])


def test_of_an_imported_attack_only_what_is_known_is_compared():
    ours = run([rows("pgd", [0], [0])], "ab", {"pgd": {"eps": 0.1, "steps": 20}})
    theirs = run([rows("pgd", [0], [0])], "ab", {"pgd": {"eps": 0.1}}, engine="imported")
    assert mismatch([ours, theirs], "pgd") is None
    assert unknown_constants([ours, theirs], "pgd") == ("steps",)
    other = run([rows("pgd", [0], [0])], "ab", {"pgd": {"eps": 0.2}}, engine="imported")
    assert mismatch([ours, other], "pgd").constant == "eps"
