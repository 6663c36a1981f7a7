"""The validation part: the last n of each class, by a slow search."""

from __future__ import annotations

import numpy as np
import pytest

from ferd_eval.errors import UserError
from ferd_train.training.validation import hold_out


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_class", [1, 3])
def test_last_of_each_class_in_file_order(seed, per_class):
    labels = np.random.default_rng(seed).integers(0, 4, 60) * 2  # classes 1, 3, 5 have no image
    expected = []
    for row, label in enumerate(labels):
        if (labels[row + 1 :] == label).sum() < per_class:
            expected.append(row)
    trained, held_out = hold_out(labels, per_class)
    assert held_out.tolist() == expected
    assert sorted([*trained, *held_out]) == list(range(60))


def test_a_class_keeps_at_least_one_image():
    labels = np.array([0, 0, 0, 1, 1])
    assert hold_out(labels, 1)[0].tolist() == [0, 1, 3]
    with pytest.raises(UserError, match=r"class 1 has 2 training images, but 2 .*lower validation"):
        hold_out(labels, 2)
