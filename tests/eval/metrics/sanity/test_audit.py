"""The audit's bound against counting and simulation, and the sample it rests on."""

from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest

from ferd_eval.attacks import draw_sample
from ferd_eval.metrics.sanity.audit import audit, most_hidden_simple, most_hidden_stratified


@pytest.mark.parametrize(("survivors", "sampled", "broken"), [(7, 3, 0), (9, 4, 1), (6, 6, 2)])
def test_the_simple_bound_is_its_definition(survivors, sampled, broken):
    """Count the subsets: the largest D that is not implausible."""

    def at_most(fallen):
        ways = sum(
            comb(fallen, hit) * comb(survivors - fallen, sampled - hit) for hit in range(broken + 1)
        )
        return ways / comb(survivors, sampled)

    possible = [
        fallen
        for fallen in range(broken, survivors - (sampled - broken) + 1)
        if at_most(fallen) > 0.05
    ]
    assert most_hidden_simple(survivors, sampled, broken) == max(possible) - broken


def test_with_nothing_broken_about_three_in_m_may_be_hidden():
    hidden = most_hidden_stratified(3000, 256, 0, 256 / 3000)
    assert 0.9 * 3 / 256 * 3000 < hidden <= 3 / 256 * 3000
    assert most_hidden_stratified(100, 100, 4, 1.0) == 0
    assert most_hidden_simple(0, 0, 0) == 0
    assert most_hidden_simple(5, 0, 0) == 5, "a class that gave nobody may hide everybody"


@pytest.mark.parametrize(
    ("survivors_K", "fallen_K"),
    [
        ([40, 40, 40], [4, 4, 4]),
        ([40, 40, 40], [12, 0, 0]),
        ([90, 25, 5], [0, 0, 5]),
        ([90, 25, 5], [20, 5, 1]),
        ([30, 30, 30, 30], [1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("size", [12, 30, 60])
def test_the_stratified_bound_covers_exactly(survivors_K, fallen_K, size):
    """Coverage by enumeration over how many of each class's fallen are drawn."""
    survivors = sum(survivors_K)
    drawn_K = [-(-count * size // survivors) for count in survivors_K]
    share = min(m / s for m, s in zip(drawn_K, survivors_K, strict=True))
    covered = 0.0
    for hits_K in product(*(range(d + 1) for d in fallen_K)):
        chance = 1.0
        for s, d, m, hit in zip(survivors_K, fallen_K, drawn_K, hits_K, strict=True):
            chance *= comb(d, hit) * comb(s - d, m - hit) / comb(s, m) if m >= hit else 0.0
        if chance:
            f = sum(hits_K)
            hidden = most_hidden_stratified(survivors, sum(drawn_K), f, share)
            covered += chance * (sum(fallen_K) - f <= hidden)
    assert covered >= 0.95


def outcomes(labels, correct):
    return pd.DataFrame({"index": np.arange(len(labels)), "label": labels, "correct": correct})


def test_counts_come_from_the_rows():
    labels = np.repeat([0, 1, 3], [10, 20, 5])
    correct = np.ones(35, dtype=bool)
    correct[[0, 10, 11, 30]] = False  # 0 and 30 fell before the audit, 10 and 11 in it
    found = audit(outcomes(labels, correct), [1, 2, 10, 11, 12, 31], 4)
    overall = found.overall
    assert (overall.n, overall.survivors, overall.sampled, overall.broken) == (35, 33, 6, 2)
    assert overall.accuracy == pytest.approx(31 / 35)
    assert overall.lower == pytest.approx((31 - overall.most_hidden) / 35)
    by_class = [(c.n, c.survivors, c.sampled, c.broken) for c in found.per_class]
    assert by_class == [(10, 9, 2, 0), (20, 20, 3, 2), (0, 0, 0, 0), (5, 4, 1, 0)]
    assert found.per_class[2].accuracy is None
    assert found.per_class[0].lower < found.per_class[0].accuracy


@pytest.mark.parametrize("seed", [0, 1])
def test_the_sample_is_in_proportion_rounded_up_and_keyed_by_image(seed):
    generator = np.random.default_rng(seed)
    labels = generator.choice(5, 400, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    indices = generator.permutation(10_000)[:400].astype(np.int64)
    drawn = draw_sample(labels, indices, 60, seed)
    assert len(set(drawn.tolist())) == len(drawn)
    for label in range(5):
        members = int((labels == label).sum())
        assert (labels[drawn] == label).sum() == -(-members * 60 // 400)
    order = generator.permutation(400)
    again = draw_sample(labels[order], indices[order], 60, seed)
    assert set(indices[order][again]) == set(indices[drawn])
    other = draw_sample(labels, indices, 60, seed + 1)
    assert set(other.tolist()) != set(drawn.tolist())
    assert len(draw_sample(labels, indices, 400, seed)) == 400


def test_every_image_of_a_class_is_as_likely_to_be_drawn():
    labels, indices = np.zeros(20, dtype=np.int64), np.arange(20)
    count = sum(np.bincount(draw_sample(labels, indices, 5, s), minlength=20) for s in range(2000))
    assert np.abs(count / 2000 - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 2000)
