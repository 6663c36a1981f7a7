"""Confusion and its summary against scikit-learn, scipy and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix as sklearn_confusion

from ferd_eval.metrics.confusion.matrix import confusion_matrix, error_pattern, normalised_entropy


@st.composite
def predictions(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    K = draw(st.integers(1, 9))
    n = draw(st.integers(0, 60))
    each = st.lists(st.integers(0, K - 1), min_size=n, max_size=n)
    return K, np.array(draw(each), dtype=int), np.array(draw(each), dtype=int)


@settings(deadline=None)
@given(predictions())
def test_counts_are_those_of_scikit_learn(drawn: tuple[int, np.ndarray, np.ndarray]) -> None:
    K, labels, predicted = drawn
    counts = confusion_matrix(labels, predicted, K)
    if len(labels):
        np.testing.assert_array_equal(
            counts, sklearn_confusion(labels, predicted, labels=np.arange(K))
        )
    else:
        assert not counts.any()


@settings(deadline=None)
@given(predictions())
def test_the_pattern_is_what_a_loop_counts(drawn: tuple[int, np.ndarray, np.ndarray]) -> None:
    K, labels, predicted = drawn
    names = [f"c{i}" for i in range(K)]
    pattern = error_pattern(confusion_matrix(labels, predicted, K), names)
    wrong = labels != predicted
    assert pattern.errors == wrong.sum()
    for i in range(K):
        source, target = pattern.sources[i], pattern.targets[i]
        own = predicted[wrong & (labels == i)]
        assert (source.name, source.errors) == (names[i], len(own))
        if len(own):
            frequency = np.bincount(own, minlength=K)
            assert source.top_target == frequency.argmax()
            assert source.top_share == pytest.approx(frequency.max() / len(own))
        else:
            assert source.top_target is source.top_share is source.entropy is None
        if len(own) and K > 2:
            expected = entropy(frequency / len(own)) / np.log(K - 1)
            assert source.entropy == pytest.approx(expected, abs=1e-12)
            correction = ((frequency > 0).sum() - 1) / (2 * len(own)) / np.log(K - 1)
            assert source.entropy_corrected == pytest.approx(min(1, expected + correction))
        into = wrong & (predicted == i)
        assert target.errors == into.sum()
        assert target.share == (pytest.approx(into.sum() / wrong.sum()) if wrong.any() else None)
        others = (labels != i).sum()
        rate = pytest.approx(into.sum() / others) if others else None
        assert target.false_positive_rate == rate
    best = max(
        (
            ((wrong & (labels == i) & (predicted == j)).sum() / max((labels == i).sum(), 1), -i, -j)
            for i in range(K)
            for j in range(K)
            if i != j
        ),
        default=(0, 0, 0),
    )
    if wrong.any():
        assert pattern.worst_pair is not None
        assert pattern.worst_pair.rate == pytest.approx(best[0])
        assert (pattern.worst_pair.source, pattern.worst_pair.target) == (-best[1], -best[2])
    else:
        assert pattern.worst_pair is pattern.gini is None


def test_entropy_is_1_when_errors_spread_evenly_and_0_when_one_class_takes_all() -> None:
    counts = np.array([[5, 3, 3, 3], [4, 0, 0, 0], [0, 0, 9, 0], [1, 1, 1, 0]])
    errors = counts * ~np.eye(4, dtype=bool)
    raw, corrected = normalised_entropy(errors)
    np.testing.assert_allclose(raw, [1, 0, np.nan, 1], atol=1e-12)
    np.testing.assert_allclose(corrected, [1, 0, np.nan, 1], atol=1e-12)


def test_with_two_classes_an_error_has_nowhere_to_choose() -> None:
    pattern = error_pattern(np.array([[3, 2], [1, 4]]), ["a", "b"])
    assert pattern.sources[0].entropy is None
    assert pattern.sources[0].top_share == 1.0


def test_the_correction_takes_most_of_the_bias_away() -> None:
    random = np.random.default_rng(0)
    p = np.array([0, 0.3, 0.25, 0.2, 0.1, 0.08, 0.07])
    truth = entropy(p) / np.log(6)
    draws = np.stack([random.multinomial(40, p) for _ in range(700)])
    estimates = [normalised_entropy(draws[i : i + 7]) for i in range(0, 700, 7)]
    raw, corrected = (np.mean([pair[side] for pair in estimates]) for side in (0, 1))
    assert raw < truth - 0.02
    assert abs(corrected - truth) < 0.4 * (truth - raw)
