"""How a number is printed."""

from __future__ import annotations

import pytest

from ferd_eval.report import percent, ratio
from ferd_eval.report.format import span, whole


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


def test_an_interval_sorts_by_its_lower_end() -> None:
    assert (span((0.4, 0.469)).text, span((0.4, 0.469)).value) == ("40.0 to 46.9", 0.4)
    assert span((-0.05, 0.0)).text == "−5.0 to 0.0"
    assert (span(None).text, span(None).value) == ("–", None)


def test_a_count_has_none() -> None:
    assert whole(10000).text == "10000"
