"""Rows come in any order and leave in one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ferd_eval.evaluation.attack_run import GatheredRows


def unit(number: int) -> pd.DataFrame:
    """Units of different lengths, one of them empty."""
    rows = pd.DataFrame({"index": np.arange(number % 4) + 10 * number, "attack": "pgd"})
    rows.attrs = {"seconds": 1.0, "stage": number}
    return rows


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_rows_leave_in_the_order_of_their_units(count):
    gathered = GatheredRows()
    for number in np.random.default_rng(count).permutation(count).tolist():
        gathered.add(number, unit(number))
    expected = pd.concat([unit(number) for number in range(count)], ignore_index=True)
    pd.testing.assert_frame_equal(gathered.in_order(), expected)
    assert gathered.in_order().attrs == {}


def test_only_a_few_tables_are_held():
    gathered, held = GatheredRows(), 0
    for number in range(1000):
        gathered.add(number, unit(3))
        held = max(held, len(gathered._tables))
    assert held <= 11
