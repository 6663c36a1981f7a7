"""Targeted success against a loop over attempts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferd_eval.metrics import TargetedSuccess, scorecard
from ferd_eval.metrics.confusion.targeted import targeted_success
from tests.eval.metrics.simulated_run import rows, run


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)).filter(
            lambda attempt: attempt[0] != attempt[1]
        ),
        min_size=1,
        max_size=80,
    )
)
def test_every_rate_is_what_a_loop_counts(attempts: list[tuple[int, int, int]]) -> None:
    labels, aims, predicted = np.array(attempts).T
    found = targeted_success(labels, aims, predicted, list("abcd"))
    for i in range(4):
        for j in range(4):
            those = (labels == i) & (aims == j)
            assert found.attempts[i, j] == those.sum()
            rate = (predicted[those] == j).mean() if those.any() else np.nan
            np.testing.assert_allclose(found.success[i, j], rate)
        into, out = aims == i, labels == i
        assert found.by_target[i].success == (
            pytest.approx((predicted[into] == i).mean()) if into.any() else None
        )
        assert found.by_source[i].success == (
            pytest.approx((predicted[out] == aims[out]).mean()) if out.any() else None
        )
    if (predicted == aims).any():
        assert found.worst_pair is not None
        assert found.worst_pair.rate == np.nanmax(found.success)
    else:
        assert found.worst_pair is None


def test_an_image_is_right_only_if_it_survives_every_target() -> None:
    # Images 0 and 1 of class 0, image 2 of class 1; each aimed at both other classes.
    table = rows(
        "targeted",
        labels=[0, 0, 0, 0, 1, 1],
        predictions=[0, 0, 1, 0, 1, 2],
        clean=[0, 0, 0, 0, 1, 1],
        indices=[0, 0, 1, 1, 2, 2],
        targets=[1, 2, 1, 2, 0, 2],
    )
    scores = scorecard(run([table], ["a", "b", "c"])).attacks["targeted"]
    assert isinstance(scores.target, TargetedSuccess)
    assert scores.n == 3
    assert [each.accuracy for each in scores.per_class] == [0.5, 0.0, None]
    assert [each.drop for each in scores.per_class] == [0.5, 1.0, None]
    assert scores.average == pytest.approx(1 / 3)
    assert scores.confusion.sum() == 6  # attempts
    assert scores.target.success[0, 1] == 0.5
    assert scores.target.worst_pair is not None
    assert scores.target.worst_pair.target_name == "c"
