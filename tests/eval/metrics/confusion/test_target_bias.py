"""Target tests against loops and scipy; their level, coverage and power by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from ferd_eval.metrics import ErrorShift, TargetEffect, scorecard
from ferd_eval.metrics.confusion.target_bias import error_shift, target_effect
from tests.eval.metrics.simulated_run import rows, run

Array = NDArray[np.float64]


def names(K: int) -> list[str]:
    return [f"c{k}" for k in range(K)]


def attempts(
    labels: NDArray[np.int64], aims: NDArray[np.int64], hits: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], ...]:
    """Image, label, target and prediction of N × M attempts; a miss leaves the image right."""
    N, M = aims.shape
    predictions = np.where(hits, aims, labels[:, None])
    return np.repeat(np.arange(N), M), np.repeat(labels, M), aims.ravel(), predictions.ravel()


def every_other(K: int, per_class: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    labels = np.repeat(np.arange(K), per_class)
    return labels, np.array([[t for t in range(K) if t != label] for label in labels])


def stratified(part_N: Array, labels: NDArray[np.int64]) -> float:
    """Variance of a total over images drawn class by class, with numpy's variance of each class."""
    total = 0.0
    for label in set(labels.tolist()):
        own = part_N[labels == label]
        total += own[0] ** 2 if len(own) == 1 else len(own) * own.var(ddof=1)
    return total


def half_width(variance: float, jump: float, level: float) -> float:
    z = norm.isf(level / 2)
    return float(np.sqrt(z**2 * variance + z**4 * jump**2 / 2))


def level_at_zero(estimate: float, variance: float, jump: float) -> float:
    """The level at which an interval ends at 0, by root finding."""
    if estimate == 0:
        return 1.0
    return float(
        brentq(lambda q: half_width(variance, jump, q) - abs(estimate), 1e-300, 1, xtol=1e-14)
    )


@st.composite
def some_attempts(draw: st.DrawFn) -> tuple[NDArray[np.int64], ...]:
    """Attempts on a few images of four classes, at some of the others each."""
    found = []
    for image in range(draw(st.integers(1, 9))):
        label = draw(st.integers(0, 3))
        clean = draw(st.integers(0, 3))
        aims = draw(st.sets(st.sampled_from([t for t in range(4) if t != label])))
        found += [(7 * image, label, aim, draw(st.integers(0, 3)), clean) for aim in aims]
    return tuple(np.array(found or [(0, 0, 1, 0, 0)]).T)


@given(some_attempts())
@settings(max_examples=150, deadline=None)
def test_every_figure_is_what_a_loop_over_images_counts(
    made: tuple[NDArray[np.int64], ...],
) -> None:
    image, label, target, prediction, clean = made
    effect = target_effect(image, label, target, prediction, names(4), clean)
    several = [i for i in set(image.tolist()) if (image == i).sum() > 1]
    if not several:
        assert effect is None
        return
    assert effect is not None
    assert effect.images == len(several)
    assert effect.most_targets == max((image == i).sum() for i in several)
    image_labels = np.array([label[image == i][0] for i in several])
    levels = []
    tested = [t for t in range(4) if any((image == i)[target == t].any() for i in several)]
    for t in range(4):
        each = effect.per_target[t]
        differences = {}
        for at, i in enumerate(several):
            own = image == i
            if t in target[own]:
                hit = prediction[own & (target == t)][0] == t
                others = [prediction[own & (target == u)][0] == u for u in target[own] if u != t]
                differences[at] = (hit, hit - np.mean(others), clean[own][0] == t)
        assert each.n == len(differences)
        if t not in tested:
            assert each.n == 0
            assert each.success is each.excess is each.excess95 is each.clean_rate is None
            continue
        hits, excesses, already = np.array(list(differences.values()), dtype=float).T
        assert each.success == pytest.approx(hits.mean())
        assert each.excess == pytest.approx(excesses.mean(), abs=1e-12)
        assert each.clean_rate == pytest.approx(already.mean())
        part = np.zeros(len(several))
        part[list(differences)] = excesses - excesses.mean()
        variance = stratified(part, image_labels) / each.n**2
        half = half_width(variance, 1 / each.n, 0.05 / len(tested))
        assert each.excess95 == pytest.approx(
            (max(each.excess - half, -1), min(each.excess + half, 1)), abs=1e-9
        )
        levels.append(level_at_zero(each.excess, variance, 1 / each.n))
    assert effect.p == pytest.approx(min(1, len(tested) * min(levels)), abs=1e-6)
    first = {i: at for at, i in reversed(list(enumerate(image.tolist())))}
    wrong = [(clean[at]) for at in first.values() if clean[at] != label[at]]
    for t in range(4):
        share = effect.per_target[t].clean_share
        assert share == (pytest.approx(np.mean([w == t for w in wrong])) if wrong else None)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
        min_size=2, max_size=40,
    )
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_shares_of_errors_are_what_a_loop_counts(images: list[tuple[int, int, int]]) -> None:
    label, attacked, clean = np.array(images).T
    shift = error_shift(label, attacked, clean, names(4))
    wrong, clean_wrong = attacked != label, clean != label
    if not wrong.any() or not clean_wrong.any():
        assert shift is None
        return
    assert shift is not None
    assert (shift.errors, shift.clean_errors) == (wrong.sum(), clean_wrong.sum())
    jump, levels, moved = 1 / min(wrong.sum(), clean_wrong.sum()), [], 0.0
    for t in range(4):
        each = shift.per_target[t]
        share, clean_share = (attacked[wrong] == t).mean(), (clean[clean_wrong] == t).mean()
        assert each.share == pytest.approx(share)
        assert each.clean_share == pytest.approx(clean_share)
        assert each.change == pytest.approx(share - clean_share, abs=1e-12)
        part = wrong * ((attacked == t) - share) / wrong.sum()
        part = part - clean_wrong * ((clean == t) - clean_share) / clean_wrong.sum()
        variance = stratified(part, label)
        half = half_width(variance, jump, 0.05 / 4)
        ends = (max(each.change - half, -1), min(each.change + half, 1))
        assert each.change95 == pytest.approx(ends, abs=1e-9)
        levels.append(level_at_zero(each.change, variance, jump))
        moved += abs(share - clean_share) / 2
    assert shift.total_variation == pytest.approx(moved)
    assert shift.p == pytest.approx(min(1, 4 * min(levels)), abs=1e-6)


def most_allowed(repetitions: int) -> int:
    """Rejections that a test of level 5 % exceeds with a chance of 1 in 1000 at most."""
    from scipy.stats import binom

    return int(binom.isf(1e-3, repetitions, 0.05))


Chances = Callable[[np.random.Generator, NDArray[np.int64]], Array]


def same(chance: float) -> Chances:
    return lambda random, labels: np.full((len(labels), 1), chance)


def by_image(a: float, b: float) -> Chances:
    """Each image has its own chance, whatever the target: what makes attempts dependent."""
    return lambda random, labels: random.beta(a, b, len(labels))[:, None]


@pytest.mark.parametrize(
    ("K", "per_class", "chances"),
    [
        (10, 20, by_image(0.1, 0.1)),
        (10, 20, same(0.5)),
        (10, 20, same(0.01)),  # a handful of successes: the plain interval rejects four in five
        (10, 100, same(0.01)),
        (10, 2, same(0.5)),
        (3, 40, by_image(0.3, 0.7)),
    ],
)
def test_without_an_effect_of_the_target_the_level_is_kept(
    K: int, per_class: int, chances: Chances
) -> None:
    random = np.random.default_rng(5)
    labels, aims = every_other(K, per_class)
    rejected = 0
    for _ in range(400):
        hits = random.random(aims.shape) < chances(random, labels)
        effect = target_effect(*attempts(labels, aims, hits), names(K))
        assert effect is not None
        assert (effect.p < 0.05) == bool(effect.easier or effect.harder)
        rejected += effect.p < 0.05
    assert rejected <= most_allowed(400)


def test_pairs_that_are_alike_are_no_effect_of_the_target() -> None:
    # Each class is led to its two neighbours often and elsewhere seldom; every class has two.
    random = np.random.default_rng(6)
    K = 10
    labels, aims = every_other(K, 60)
    apart = (aims - labels[:, None]) % K
    chance = np.where((apart == 1) | (apart == K - 1), 0.9, 0.05)
    found = [
        target_effect(*attempts(labels, aims, random.random(aims.shape) < chance), names(K))
        for _ in range(300)
    ]
    assert sum(effect.p < 0.05 for effect in found if effect) <= most_allowed(300)


def test_intervals_of_the_excess_cover_all_classes_at_once_and_power_is_there() -> None:
    random = np.random.default_rng(7)
    K = 10
    labels, aims = every_other(K, 60)
    easy_K = np.zeros(K)
    easy_K[[2, 9]] = 0.2, -0.2
    truth_K = np.array([easy_K[t] - np.delete(easy_K, t).mean() for t in range(K)])
    missed = found = 0
    for _ in range(300):
        chance = 0.25 + 0.5 * random.integers(0, 2, len(labels))[:, None] + easy_K[aims]
        hits = random.random(aims.shape) < chance
        effect = target_effect(*attempts(labels, aims, hits), names(K))
        assert effect is not None
        ends = np.array([each.excess95 for each in effect.per_target])
        missed += bool(((ends[:, 0] > truth_K) | (ends[:, 1] < truth_K)).any())
        found += effect.easier == (2,) and effect.harder == (9,)
    assert missed <= most_allowed(300)
    assert found > 270


def likeliest(random: np.random.Generator, K: int, N: int, M: int) -> tuple[Array, Array]:
    """Labels, and the M likeliest other classes of each image; some classes are likely for many."""
    labels = random.integers(0, K, N)
    score = random.gumbel(size=(N, K)) - 0.7 * np.log(np.arange(1, K + 1))
    score[np.arange(N), labels] = -np.inf
    return labels, np.argsort(-score, axis=1)[:, :M]


def test_of_many_classes_only_those_aimed_at_are_compared() -> None:
    random = np.random.default_rng(8)
    rejected = found = 0
    for _ in range(150):
        labels, aims = likeliest(random, 120, 600, 9)
        chance = random.beta(0.5, 1, len(labels))[:, None] * np.ones(9)
        effect = target_effect(
            *attempts(labels, aims, random.random(aims.shape) < chance), names(120)
        )
        assert effect is not None
        assert effect.most_targets == 9
        assert [each.n for each in effect.per_target] == np.bincount(
            aims.ravel(), minlength=120
        ).tolist()
        rejected += effect.p < 0.05
        hits = random.random(aims.shape) < np.where(aims == 0, 0.8, 0.3)
        effect = target_effect(*attempts(labels, aims, hits), names(120))
        assert effect is not None
        found += effect.easier == (0,)
    assert rejected <= most_allowed(150)
    assert found > 130


def errors(
    random: np.random.Generator, labels: NDArray[np.int64], chance: float, weight_K: Array
) -> NDArray[np.int64]:
    """Predictions that are wrong with a chance, and then go to the other classes by weight."""
    K = len(weight_K)
    score = np.log(weight_K) + random.gumbel(size=(len(labels), K))
    score[np.arange(len(labels)), labels] = -np.inf
    wrong = random.random(len(labels)) < chance
    return np.where(wrong, score.argmax(axis=1), labels)


@pytest.mark.parametrize(("per_class", "clean_chance"), [(20, 0.05), (100, 0.3)])
def test_errors_that_end_alike_are_no_shift(per_class: int, clean_chance: float) -> None:
    random = np.random.default_rng(9)
    weight_K = 1 / np.arange(1, 11)
    labels = np.repeat(np.arange(10), per_class)
    rejected = found = 0
    for _ in range(300):
        clean = errors(random, labels, clean_chance, weight_K)
        # As attacks do: what is wrong stays wrong, half of it toward the same class.
        again = errors(random, labels, 0.6, weight_K)
        stays = (clean != labels) & ((again == labels) | (random.random(len(labels)) < 0.5))
        shift = error_shift(labels, np.where(stays, clean, again), clean, names(10))
        if shift is not None:
            assert (shift.p < 0.05) == bool(shift.more or shift.fewer)
            rejected += shift.p < 0.05
        moved = errors(random, labels, 0.6, np.where(np.arange(10) == 4, 4.0, weight_K))
        shift = error_shift(labels, moved, clean, names(10))
        found += shift is not None and shift.more == (4,)
    assert rejected <= most_allowed(300)
    if clean_chance == 0.3:
        assert found > 250


def test_the_order_of_the_rows_changes_nothing() -> None:
    random = np.random.default_rng(10)
    labels, aims = every_other(7, 13)
    image, label, target, prediction = attempts(labels, aims, random.random(aims.shape) < 0.3)
    clean = errors(random, labels, 0.3, np.arange(1.0, 8.0))
    table = pd.concat(
        [
            rows("targeted", label, prediction, clean[image], indices=image, targets=target),
            rows("pgd", labels, errors(random, labels, 0.6, np.arange(7.0, 0.0, -1)), clean),
        ],
        ignore_index=True,
    )
    card, shuffled = (
        scorecard(run([each], names(7)))
        for each in (
            table,
            table.sample(frac=1, random_state=1).sort_values("attack", kind="stable"),
        )
    )
    for attack in ("targeted", "pgd"):
        assert card.attacks[attack].toward is not None
        assert card.attacks[attack].toward == shuffled.attacks[attack].toward


def test_a_scorecard_answers_where_there_is_something_to_compare() -> None:
    labels = np.repeat(np.arange(3), 4)
    clean = np.where(np.arange(12) % 4 == 0, (labels + 1) % 3, labels)
    attacked = np.where(np.arange(12) % 2 == 0, (labels + 2) % 3, labels)
    tables = [rows("clean", labels, clean), rows("pgd", labels, attacked, clean)]
    tables += [
        rows("targeted", labels, attacked, clean, targets=(labels + shift) % 3) for shift in (1, 2)
    ]
    card = scorecard(run(tables, names(3)))
    assert card.attacks["clean"].toward is None
    assert isinstance(card.attacks["pgd"].toward, ErrorShift)
    assert isinstance(card.attacks["targeted"].toward, TargetEffect)
    assert card.to_dict()["attacks"]["pgd"]["toward"]["clean_errors"] == 3
    one_aim = scorecard(run([tables[2]], names(3)))
    assert one_aim.attacks["targeted"].toward is None
    unknown = rows("pgd", labels, attacked, np.full(12, -1))
    assert scorecard(run([unknown], names(3))).attacks["pgd"].toward is None
    aimed = [
        rows("targeted", labels, attacked, np.full(12, -1), targets=(labels + shift) % 3)
        for shift in (1, 2)
    ]
    effect = scorecard(run(aimed, names(3))).attacks["targeted"].toward
    assert isinstance(effect, TargetEffect)
    assert {each.clean_rate for each in effect.per_target} == {None}
    assert {each.clean_share for each in effect.per_target} == {None}
