"""Charts: what the lines of a figure show is what was measured."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from ferd_train.monitoring.charts import STYLES, learning_curves, to_svg, weight_history
from tests.train.student_runs import log

pytest.importorskip("matplotlib")


def panels(figure):
    return {ax.get_title(loc="left"): ax for ax in figure.axes}


def lines(ax) -> dict[str, list[tuple[float, float]]]:
    """Known points by label."""
    return {
        line.get_label(): [(x, y) for x, y in line.get_xydata().tolist() if math.isfinite(y)]
        for line in ax.lines
    }


def test_each_figure_has_its_line():
    logs = [
        log(
            epoch,
            generator_loss=30.0 - epoch,
            generator_terms={"adv": -0.5 * epoch, "bn": 2.0 * epoch, "own": 3.0},
            student_loss=None if epoch == 1 else 1 / epoch,
            student_agrees=None if epoch == 1 else 0.2 * epoch,
            teacher_agrees=0.1 * epoch,
        )
        for epoch in (1, 2, 3)
    ]
    shown = panels(learning_curves(logs))
    titles = [
        "Generator, L_gen",
        "Divergence of student and teacher, L_adv",
        "Batch-norm statistics, L_bn",
        "Generator, own",
        "Student, L_stu",
        "Agreement with the teacher",
    ]
    assert [*shown] == titles
    expected = [
        {"27": [(1, 29), (2, 28), (3, 27)]},
        {"−1.5": [(1, -0.5), (2, -1), (3, -1.5)]},
        {"6": [(1, 2), (2, 4), (3, 6)]},
        {"3": [(1, 3), (2, 3), (3, 3)]},
        {"0.333": [(2, 1 / 2), (3, 1 / 3)]},
        {
            "0.3 new images": [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))],
            "0.6 student": [(2, 0.4), (3, pytest.approx(0.6))],
        },
    ]
    assert [lines(ax) for ax in shown.values()] == expected
    assert shown["Agreement with the teacher"].get_ylim() == (0, 1)
    assert {ax.get_xlim() for ax in shown.values()} == {(1, 3)}


def test_validation_is_shown_where_there_is_any():
    figures = {"clean": 0.9, "clean_worst_class": 0.7, "pgd": 0.5, "pgd_worst_class": 0.1}
    held_out = panels(learning_curves([log(1, validation=figures)]))["Held-out images"]
    assert lines(held_out) == {
        "0.9 clean": [(1, 0.9)], "0.7 clean, worst": [(1, 0.7)],
        "0.5 PGD-10": [(1, 0.5)], "0.1 PGD-10, worst": [(1, 0.1)],
    }  # fmt: skip
    assert "Held-out images" not in panels(learning_curves([log(1, student_loss=None)]))
    assert "Student, L_stu" not in panels(learning_curves([log(1, student_loss=None)]))


def test_agreement_on_held_out_synthetic_images_is_shown_from_the_first_student_epoch():
    figures = {"clean": 0.9, "clean_lowest": None, "pgd": 0.5, "pgd_lowest": 0.25}
    panel = panels(learning_curves([log(1), log(2, held_out=figures)]))["Held-out synthetic images"]
    assert lines(panel) == {
        "0.9 clean": [(2, 0.9)], "0.5 PGD-10": [(2, 0.5)], "0.25 PGD-10, lowest class": [(2, 0.25)],
    }  # fmt: skip
    assert "Held-out synthetic images" not in panels(learning_curves([log(1)]))


def test_lines_are_broken_where_nothing_finite_is_known():
    losses = [1.0, math.inf, 3.0, None, 5.0, 6.0, math.nan]
    logs = [log(epoch, generator_loss=loss) for epoch, loss in enumerate(losses, 1)]
    (line,) = panels(learning_curves(logs))["Generator, L_gen"].lines
    np.testing.assert_array_equal(line.get_ydata(), [1, np.nan, 3, np.nan, 5, 6, np.nan])
    assert line.get_markevery() == [0, 2, 5]  # alone, alone, last


def weights(epochs: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(classes, 8.0), epochs)


@pytest.mark.parametrize(("epochs", "classes"), [(1, 3), (20, 10), (20, 100)])
def test_every_class_is_a_line_at_its_weights(epochs, classes):
    weights_EK = weights(epochs, classes)
    figure = weight_history(weights_EK.tolist(), [f"class-{k}" for k in range(classes)])
    (ax,) = figure.axes
    shown = {label.split()[-1]: points for label, points in lines(ax).items()}
    for k in range(classes):
        expected = list(zip(range(1, epochs + 1), weights_EK[:, k], strict=True))
        assert shown[f"class-{k}"] == expected
    assert shown[f"1/{classes}"] == [(0, 1 / classes), (1, 1 / classes)]
    assert ax.get_ylim()[0] == 0


def test_up_to_ten_classes_are_all_named_and_look_different():
    last_K = weights(5, 10)[-1]
    (ax,) = weight_history(weights(5, 10).tolist(), [f"class-{k}" for k in range(10)]).axes
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    by_weight = [f"{last_K[k]:.3f} class-{k}" for k in np.argsort(-last_K)]
    assert texts == [*by_weight, "0.100 even, 1/10"]
    assert {(line.get_color(), line.get_linestyle()) for line in ax.lines[:-1]} == {*STYLES}


def test_of_more_the_extremes_alone_are_named_and_coloured():
    weights_EK = weights(4, 100)
    figure = weight_history(weights_EK.tolist(), [f"class-{k}" for k in range(100)])
    order = np.argsort(weights_EK[-1])
    extremes = {f"class-{k}" for k in (*order[:3], *order[-3:])}
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {text.split()[-1] for text in texts[:-1]} == extremes
    coloured = [each for each in figure.axes[0].lines[:-1] if each.get_color() in dict(STYLES)]
    assert {each.get_label().split()[-1] for each in coloured} == extremes
    note = "of 100 classes, the 3 that end lowest and highest are named"
    assert any(note in text.get_text() for text in figure.texts)


def test_files_are_the_same_each_time_and_name_their_lines():
    def drawn() -> bytes:
        return to_svg(weight_history([[0.25, 0.75], [0.5, 0.5]], ["a <b>", "x" * 33]))

    assert drawn() == drawn()
    titles = {each.text for each in ElementTree.fromstring(drawn()).iter() if "title" in each.tag}
    assert {"0.500 a <b>", "0.500 " + "x" * 31 + "…"} <= titles


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
