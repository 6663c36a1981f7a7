"""The picture of the class weights against the weights it was drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from ferd_train.monitoring.charts import STYLES
from ferd_train.monitoring.weight_history import weight_history
from tests.train.monitoring.charts import Chart


def weights(epochs: int, classes: int) -> np.ndarray:
    drawn_EK = np.random.default_rng(0).dirichlet(np.full(classes, 8.0), epochs)
    drawn_EK[0] = 1 / classes
    return drawn_EK


def draw(weights_EK: np.ndarray) -> Chart:
    names = [f"class-{label}" for label in range(weights_EK.shape[1])]
    return Chart(weight_history(weights_EK.tolist(), names))


@pytest.mark.parametrize(("epochs", "classes"), [(1, 3), (3, 10), (200, 10), (3, 100), (200, 100)])
def test_every_class_is_a_line_at_its_weights(epochs, classes):
    weights_EK = weights(epochs, classes)
    panel = draw(weights_EK).panels[0]
    assert len(panel.lines) == classes
    for label in range(classes):
        points = np.array(panel.lines[f"class-{label}"].points)
        np.testing.assert_allclose(points[:, 0], np.arange(1, epochs + 1), atol=0.01 * epochs / 200)
        np.testing.assert_allclose(points[:, 1], weights_EK[:, label], atol=5e-5)
    assert panel.level == pytest.approx(1 / classes, abs=1e-4)
    assert panel.y_ticks[0] == 0


def test_up_to_ten_classes_are_all_named_and_look_different():
    weights_EK = weights(5, 10)
    panel = draw(weights_EK).panels[0]
    assert {*panel.labels} == {
        *(f"{weight:.3f} class-{label}" for label, weight in enumerate(weights_EK[-1])),
        "0.100 even, 1/10",
    }
    looks = {(line.colour, line.dashes) for line in panel.lines.values()}
    assert looks == {*STYLES}
    assert min(np.diff(sorted(panel.labels.values()))) >= 14


def test_of_more_the_extremes_alone_are_named_and_coloured():
    weights_EK = weights(4, 100)
    chart = draw(weights_EK)
    panel = chart.panels[0]
    order = np.argsort(weights_EK[-1])
    extremes = {f"class-{label}" for label in (*order[:3], *order[-3:])}
    assert {text.split()[1] for text in panel.labels} - {"even,"} == extremes
    coloured = {name for name, line in panel.lines.items() if line.colour in dict(STYLES)}
    assert coloured == extremes
    assert "of 100 classes, the 3 that end lowest and highest are named" in chart.note
