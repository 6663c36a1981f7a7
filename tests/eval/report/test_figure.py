"""How a number is printed."""

from __future__ import annotations

import pytest

from ferd_eval.report import percent, ratio
from ferd_eval.report.figure import whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5431, "54.3"),
        (1.0, "100.0"),
        (0.0, "0.0"),
        (-0.021, "−2.1"),
        (-0.0001, "0.0"),
        (None, "–"),
    ],
)
def test_per_cent_has_one_decimal(value: float | None, text: str) -> None:
    assert percent(value).text == str(percent(value)) == text


@pytest.mark.parametrize(("value", "text"), [(0.2804, "0.280"), (None, "–"), (-0.0001, "0.000")])
def test_a_ratio_has_three(value: float | None, text: str) -> None:
    assert ratio(value).text == text


def test_a_count_has_none() -> None:
    assert whole(10000).text == "10000"
