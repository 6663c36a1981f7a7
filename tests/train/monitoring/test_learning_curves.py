"""The learning curves against the figures they were drawn from."""

from __future__ import annotations

import numpy as np

from ferd_train.monitoring.learning_curves import learning_curves
from tests.train.monitoring.charts import Chart, DrawnPanel
from tests.train.student_runs import log


def panels(svg: str) -> dict[str, DrawnPanel]:
    return {panel.text("panel-title"): panel for panel in Chart(svg).panels}


def assert_shows(panel: DrawnPanel, label: str, epochs: list[int], values: list[float]) -> None:
    """The line that ends at the label's number."""
    points = panel.lines[label].points
    np.testing.assert_allclose(points, list(zip(epochs, values, strict=True)), atol=0.01)


def test_each_figure_has_its_line():
    logs = [
        log(
            epoch,
            generator_loss=30.0 - epoch,
            generator_terms={"adv": -0.5 * epoch, "bn": 2.0 * epoch, "uni": 1.0},
            student_loss=None if epoch == 1 else 1 / epoch,
            student_agrees=None if epoch == 1 else 0.2 * epoch,
            teacher_agrees=0.1 * epoch,
        )
        for epoch in (1, 2, 3)
    ]
    shown = panels(learning_curves(logs))
    adv, bn, uni = (
        next(title for title in shown if title.endswith(term))
        for term in ("L_adv", "L_bn", "L_uni")
    )
    assert [*shown] == [
        "Generator, L_gen", adv, bn, uni, "Student, L_stu", "Agreement with the teacher"
    ]  # fmt: skip
    everywhere = [1, 2, 3]
    assert_shows(shown["Generator, L_gen"], "Generator, L_gen", everywhere, [29, 28, 27])
    assert_shows(shown[adv], adv, everywhere, [-0.5, -1, -1.5])
    assert_shows(shown[bn], bn, everywhere, [2, 4, 6])
    assert_shows(shown[uni], uni, everywhere, [1, 1, 1])
    assert_shows(shown["Student, L_stu"], "Student, L_stu", [2, 3], [1 / 2, 1 / 3])
    agreement = shown["Agreement with the teacher"]
    assert_shows(agreement, "new images", everywhere, [0.1, 0.2, 0.3])
    assert_shows(agreement, "student", [2, 3], [0.4, 0.6])
    assert (agreement.y_ticks[0], agreement.y_ticks[-1]) == (0, 1)
    assert [*shown[adv].labels] == ["−1.50"]
    assert {*agreement.labels} == {"0.300 new images", "0.600 student"}


def test_validation_is_shown_where_there_is_any():
    figures = {"clean": 0.9, "clean_worst_class": 0.7, "pgd": 0.5, "pgd_worst_class": 0.1}
    held_out = panels(learning_curves([log(1, validation=figures)]))["Held-out images"]
    assert {*held_out.labels} == {
        "0.900 clean", "0.700 clean, worst", "0.500 PGD-10", "0.100 PGD-10, worst"
    }  # fmt: skip
    assert_shows(held_out, "PGD-10, worst", [1], [0.1])
    assert "Held-out images" not in panels(learning_curves([log(1)]))


def test_the_warm_up_has_no_students_loss():
    assert "Student, L_stu" not in panels(learning_curves([log(1, student_loss=None)]))


def test_a_loss_that_is_not_finite_is_left_out():
    logs = [log(1, generator_loss=2.0), log(2, generator_loss=float("inf"))]
    shown = panels(learning_curves(logs))["Generator, L_gen"]
    assert_shows(shown, "Generator, L_gen", [1], [2.0])
