"""Charts, read back from their SVG: where the axes say a point is, its value is."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.optimize import minimize

from ferd_train.monitoring.charts import (
    STYLES,
    Line,
    Panel,
    figure,
    line_chart,
    shorten,
    spread,
    ticks,
)
from tests.train.monitoring.charts import Chart, number

VALUES = [0.5, -2.25, None, 1.75, float("nan"), 3.0, 2.0]


def one(*lines: Line, **more: object) -> Chart:
    return Chart(line_chart("T", "n", [Panel("", "loss", lines, **more)]))


def test_points_are_where_the_axes_say():
    line = one(Line("a", VALUES, "a")).panels[0].lines["a"]
    known = [(epoch, value) for epoch, value in enumerate(VALUES, 1) if value == value and value]
    np.testing.assert_allclose(line.points, known, atol=0.01)
    assert line.runs == [2, 1, 2]  # broken where nothing is known


def test_what_is_shared_is_the_epochs_not_the_values():
    panels = [
        Panel("large", "u", [Line("a", [1e5, 3e5, 2e5], "a")]),
        Panel("late", "u", [Line("b", [None, None, 1e-3], "b")]),
    ]
    large, late = Chart(line_chart("T", "n", panels, columns=2)).panels
    np.testing.assert_allclose(large.lines["a"].points, [(1, 1e5), (2, 3e5), (3, 2e5)], rtol=1e-3)
    np.testing.assert_allclose(late.lines["b"].points, [(3, 1e-3)], rtol=1e-3)


def test_epochs_and_values_fill_the_plot():
    panel = one(Line("a", [0.0, 1.0, 2.0, 4.0], "a")).panels[0]
    left, top, right, bottom = panel.frame
    np.testing.assert_allclose(panel.tick_places("x-tick"), np.linspace(left, right, 4), atol=0.01)
    heights = panel.tick_places("y-tick")
    assert heights[0] - heights[-1] == bottom - top == 320


def test_panels_lie_side_by_side_and_below_within_the_picture():
    panels = [Panel(str(n), "u", [Line("a", [1.0, 2.0], "label")]) for n in range(5)]
    chart = Chart(line_chart("T", "n", panels, columns=2, plot_size=(200, 100)))
    frames = [panel.frame for panel in chart.panels]
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in itertools.combinations(frames, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1
    assert max(r for _, _, r, _ in frames) <= chart.width
    assert max(b for _, _, _, b in frames) <= chart.height
    assert len({left for left, _, _, _ in frames}) == 2


def test_a_level_is_a_dashed_line_across():
    panel = one(Line("a", [0.0, 2.0], "a"), level=(0.5, "half")).panels[0]
    assert panel.level == pytest.approx(0.5, abs=0.01)
    assert "half" in panel.labels
    assert one(Line("a", [5.0, 6.0], "a"), including=(0.0,)).panels[0].y_ticks[0] == 0


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 199, 200, 400])
def test_epochs_are_whole_numbers_from_the_first(epochs):
    shown = one(Line("a", [1.0] * epochs, "a")).panels[0].x_ticks
    assert shown[0] == 1
    assert len(shown) <= 10
    assert shown == sorted({*shown})
    assert shown[-1] > 0.7 * epochs or epochs == 2
    assert epochs > 8 or shown == [*range(1, epochs + 1)]


def test_labels_do_not_overlap_and_stay_in_order():
    lines = [Line(f"c{n}", [0.1, 0.1 + n * 1e-4], f"c{n}") for n in range(10)]
    panel = one(*lines, level=(0.1, "even")).panels[0]
    heights = sorted(panel.labels.values())
    assert len(heights) == 11
    assert min(np.diff(heights)) >= 14
    by_height = sorted((name for name in panel.labels if name != "even"), key=panel.labels.get)
    assert by_height == [f"c{n}" for n in range(9, -1, -1)]
    _, top, _, bottom = panel.frame
    assert heights[0] >= top - 5
    assert heights[-1] <= bottom + 15


def test_a_line_without_a_label_is_thin_and_grey():
    panel = one(Line("grey", [1.0, 2.0]), Line("named", [2.0, 1.0], "named")).panels[0]
    grey, named = panel.lines["grey"], panel.lines["named"]
    assert [*panel.labels] == ["named"]
    assert grey.width < named.width
    assert len({grey.colour[i : i + 2] for i in (1, 3, 5)}) >= 1
    assert named.colour == STYLES[0][0]
    assert contrast(grey.colour) < 2 < 3 <= contrast(named.colour)


def test_names_are_escaped():
    chart = Chart(line_chart("<T&\"'>", "a<b", [Panel("&", "<u>", [Line("<&>", [1.0], "<&>")])]))
    assert chart.title == "<T&\"'>"
    assert [*chart.panels[0].lines] == [*chart.panels[0].labels] == ["<&>"]


def test_nothing_is_fetched():
    text = line_chart("T", "n", [Panel("", "u", [Line("a", [1.0], "a")])])
    assert text.count("http") == 1  # the name of SVG's own namespace
    assert not {"href", "url(", "script", "import"} & {*text.replace("=", " ").split()}
    ElementTree.fromstring(text)


def test_too_many_named_lines_are_an_error_of_ours():
    lines = [Line(str(n), [1.0], str(n)) for n in range(len(STYLES) + 1)]
    with pytest.raises(AssertionError, match="11 lines"):
        one(*lines)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (0, 0.3),
        (-0.7, 12.3),
        (5, 5),
        (0, 0),
        (-3, -3),
        (1e-9, 4e-9),
        (2e37, 3e38),
        (99, 100),
    ],
)
def test_ticks_are_round_few_and_enclose(low, high):
    for most in (2, 3, 6):
        marks = ticks(low, high, most)
        slack = 1e-6 * (marks[1] - marks[0])
        assert marks[0] <= low + slack
        assert marks[-1] >= high - slack
        assert 2 <= len(marks) <= most + 2
        step = marks[1] - marks[0]
        leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(leading - each) for each in (1, 2, 5)) < 1e-6
        np.testing.assert_allclose(np.diff(marks), step, rtol=1e-6)


@pytest.mark.parametrize(
    "values", [(0.0, 0.3), (-12.0, 40.0), (1e-9, 3e-9), (2e37, 1e38), (281.2, 281.3), (0.0, 1e6)]
)
def test_ticks_read_as_the_numbers_they_stand_at(values):
    panel = one(Line("a", list(values), "a")).panels[0]
    assert len({*panel.y_ticks}) == len(panel.y_ticks)
    np.testing.assert_allclose([value for _, value in panel.lines["a"].points], values, rtol=0.01)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.12345, "0.123"),
        (-0.00621, "−0.00621"),
        (47.52, "47.5"),
        (281.9, "282"),
        (12345.0, "12345"),
        (3e-7, "3.0e−07"),
        (2.5e11, "2.5e+11"),
    ],
)
def test_figures_have_three_digits(value, text):
    assert figure(value) == text
    assert number(text) == pytest.approx(value, rel=0.01)


def test_long_labels_end_in_dots():
    assert shorten("x" * 32) == "x" * 32
    assert shorten("x" * 33) == "x" * 31 + "…"


@pytest.mark.parametrize("seed", range(6))
def test_spread_is_the_least_squares_answer(seed):
    random = np.random.default_rng(seed)
    wanted = random.uniform(0, 40, 6) if seed else np.full(6, 20.0)
    places = np.array(spread([*wanted], 5.0, 0.0, 40.0))
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= 5 - 1e-9).all()
    assert places.min() >= -1e-9
    assert places.max() <= 40 + 1e-9
    best = minimize(
        lambda p: ((p - wanted[order]) ** 2).sum(),
        np.linspace(0, 40, 6),
        constraints={"type": "ineq", "fun": lambda p: np.diff(p) - 5},
        bounds=[(0, 40)] * 6,
    )
    assert ((places - wanted) ** 2).sum() == pytest.approx(best.fun, abs=1e-3)


def test_what_needs_no_room_is_left_where_it_is():
    assert spread([3.0, 30.0, 15.0], 5.0, 0.0, 40.0) == [3.0, 30.0, 15.0]
    assert spread([], 5.0, 0.0, 40.0) == []
    assert spread([1.0, 1.0, 1.0], 5.0, 0.0, 4.0) == [0.0, 5.0, 10.0]


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(colour: str) -> float:
    """To white, as WCAG has it."""
    return float(1.05 / (0.05 + linear(colour) @ [0.2126, 0.7152, 0.0722]))


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ rgb.clip(0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_lines_are_told_apart_on_white_under_every_colour_blindness():
    assert len({*STYLES}) == len(STYLES) == 10
    for colour, _ in STYLES:
        assert contrast(colour) >= 3
    for name, matrix in BLINDNESS.items():
        for (a, dash_a), (b, dash_b) in itertools.combinations(STYLES, 2):
            if dash_a == dash_b:
                gap = np.linalg.norm(lab(matrix @ linear(a)) - lab(matrix @ linear(b)))
                assert gap > 15, (name, a, b)
