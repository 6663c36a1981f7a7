"""The grammar of verdicts: exactly one for any outcome, and the right one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ferd_eval.metrics import Delta, Verdict
from ferd_eval.metrics.comparison.verdict import MARGIN, verdict


def delta(low: float, high: float) -> Delta:
    return Delta(0.5, 0.5 + (low + high) / 2, (low + high) / 2, (low, high), high - low)


UNKNOWN = Delta(None, None, None, None, None)

# Near the values that decide, where mistakes hide.
ENDS = st.one_of(
    st.sampled_from([-0.05, -0.02, -0.011, -0.01, -0.009, -1e-9, 0.0, 1e-9, 0.005, 0.05]),
    st.floats(-1, 1, allow_nan=False),
)
DELTAS = st.one_of(
    st.just(UNKNOWN),
    st.tuples(ENDS, ENDS).map(lambda ends: delta(*sorted(ends))),
)
CLASSES = st.lists(
    st.tuples(st.sampled_from([-0.1, -1e-9, 0.0, 1e-9, 0.1]), st.booleans()), max_size=6
)


def restated(average: Delta, lowest: Delta, classes: list[tuple[float, bool]], margin: float):
    """The verdicts that hold by the protocol's words, each stated without the others' order.

    Every condition says itself what those before it in the grammar exclude.
    """
    better = any(beyond and value > 0 for value, beyond in classes)
    worse = any(beyond and value < 0 for value, beyond in classes)
    lower_in_sample = any(value < 0 for value, _ in classes)
    low_average, high_average = average.interval95 or (-1.0, 1.0)
    low_lowest, high_lowest = lowest.interval95 or (-1.0, 1.0)
    dominates = better and not lower_in_sample
    fairer = low_lowest > 0 and not dominates
    neither = not dominates and not fairer
    undecided = neither and low_average <= 0 <= high_average
    holds = {
        Verdict.DOMINATES: dominates,
        Verdict.FAIRER: fairer and low_average > -margin,
        Verdict.LEVELS_DOWN: fairer and low_average <= -margin,
        Verdict.STRONGER: (neither and low_average > 0)
        or (undecided and better and not worse and high_lowest >= 0),
        Verdict.WEAKER: (neither and high_average < 0)
        or (
            undecided and ((worse and not better) or (not worse and not better and high_lowest < 0))
        ),
        Verdict.MIXED: undecided and better and (worse or high_lowest < 0),
        Verdict.INDISTINGUISHABLE: undecided and not better and not worse and high_lowest >= 0,
    }
    return [each for each, is_so in holds.items() if is_so]


def decide(average, lowest, classes, margin):
    return verdict(
        average,
        lowest,
        [value for value, _ in classes],
        better=sum(beyond and value > 0 for value, beyond in classes),
        worse=sum(beyond and value < 0 for value, beyond in classes),
        margin=margin,
    )


@given(DELTAS, DELTAS, CLASSES, st.sampled_from([0.0, MARGIN, 0.05]))
@example(UNKNOWN, UNKNOWN, [], MARGIN)
@settings(max_examples=1000, deadline=None)
def test_for_any_outcome_exactly_one_verdict_holds_and_it_is_given(
    average, lowest, classes, margin
):
    assert restated(average, lowest, classes, margin) == [decide(average, lowest, classes, margin)]


ABOVE, BELOW, AROUND = delta(0.01, 0.03), delta(-0.03, -0.02), delta(-0.005, 0.01)
UP, DOWN, LOWER = (0.1, True), (-0.1, True), (-0.01, False)


@pytest.mark.parametrize(
    ("average", "lowest", "classes", "expected"),
    [
        (ABOVE, ABOVE, [UP, (0.0, False)], Verdict.DOMINATES),
        (ABOVE, AROUND, [UP, (0.01, False)], Verdict.DOMINATES),
        (ABOVE, ABOVE, [UP, LOWER], Verdict.FAIRER),
        (AROUND, ABOVE, [UP, DOWN], Verdict.FAIRER),
        (AROUND, ABOVE, [(0.02, False)], Verdict.FAIRER),
        (BELOW, ABOVE, [UP, DOWN], Verdict.LEVELS_DOWN),
        (delta(-0.011, 0.02), ABOVE, [UP, DOWN], Verdict.LEVELS_DOWN),
        (UNKNOWN, ABOVE, [UP, DOWN], Verdict.LEVELS_DOWN),
        (ABOVE, AROUND, [UP, DOWN], Verdict.STRONGER),
        (ABOVE, BELOW, [UP, DOWN], Verdict.STRONGER),
        (AROUND, AROUND, [UP, LOWER], Verdict.STRONGER),
        (BELOW, AROUND, [UP, DOWN], Verdict.WEAKER),
        (AROUND, AROUND, [DOWN, (0.01, False)], Verdict.WEAKER),
        (AROUND, BELOW, [LOWER], Verdict.WEAKER),
        (AROUND, AROUND, [UP, DOWN], Verdict.MIXED),
        (AROUND, BELOW, [UP, DOWN], Verdict.MIXED),
        (AROUND, AROUND, [LOWER, (0.01, False)], Verdict.INDISTINGUISHABLE),
        (delta(0.0, 0.1), delta(0.0, 0.1), [LOWER], Verdict.INDISTINGUISHABLE),
        (UNKNOWN, UNKNOWN, [], Verdict.INDISTINGUISHABLE),
    ],
)
def test_each_verdict_is_reached(average, lowest, classes, expected):
    assert decide(average, lowest, classes, MARGIN) == expected


def test_the_margin_decides_what_levelling_down_is():
    average = delta(-0.02, 0.0)
    assert decide(average, ABOVE, [UP, DOWN], 0.01) == Verdict.LEVELS_DOWN
    assert decide(average, ABOVE, [UP, DOWN], 0.03) == Verdict.FAIRER


def test_the_verdicts_are_those_of_the_protocol():
    assert [str(each) for each in Verdict] == [
        "dominates",
        "fairer at no average cost",
        "fairer by levelling down",
        "stronger, not fairer",
        "weaker",
        "mixed",
        "indistinguishable",
    ]
