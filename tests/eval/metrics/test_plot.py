"""The chart of a scorecard shows the scorecard's figures."""

from __future__ import annotations

import sys

import pytest

from ferd_eval.errors import UserError
from ferd_eval.metrics import scorecard
from tests.eval.metrics.simulated_run import rows, run

pytest.importorskip("matplotlib")

LABELS = [0] * 4 + [1] * 4 + [2] * 4
PREDICTED = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0, 0, 0]
CARD = scorecard(
    run([rows("pgd", LABELS, PREDICTED, clean=LABELS)], ["cat", "dog", "ship", "none"])
)


def test_bars_and_intervals_are_the_scores_and_the_worst_are_marked():
    scores = CARD.attacks["pgd"]
    (ax,) = CARD.plot("pgd").axes
    boxes = [box for box in ax.containers if hasattr(box, "patches")]
    bars = [box[0] for box in boxes]
    assert [bar.get_width() for bar in bars] == [0.75, 0.25, 0.25]
    assert len({bar.get_facecolor() for bar in bars}) == 2
    assert bars[1].get_facecolor() == bars[2].get_facecolor()  # tied
    for box, each in zip(boxes, scores.per_class[:3], strict=True):
        ((low, _), (high, _)) = box.errorbar.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx(each.wilson95)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cat", "dog", "ship", "none"]
    assert [text.get_text() for text in ax.texts] == ["no images"]
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(5 / 12)
    assert "worst class dog" in ax.get_title(loc="left")


def test_another_name_or_a_missing_package_is_said(monkeypatch):
    with pytest.raises(UserError, match=r"'pgb'\. Did you mean pgd"):
        CARD.plot("pgb")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'ferd\[plots\]'"):
        CARD.plot("pgd")
