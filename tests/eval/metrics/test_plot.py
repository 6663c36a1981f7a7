"""Charts of a scorecard and of a comparison show their figures."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from ferd_eval import compare
from ferd_eval.errors import UserError
from ferd_eval.metrics import scorecard
from tests.eval.metrics.simulated_run import constants, rows, run, simulate

pytest.importorskip("matplotlib")
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

LABELS = [0] * 4 + [1] * 4 + [2] * 4
PREDICTED = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0, 0, 0]
CARD = scorecard(
    run([rows("pgd", LABELS, PREDICTED, clean=LABELS)], ["cat", "dog", "ship", "none"])
)


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    plt.close("all")


def bars_of(ax):
    return [box for box in ax.containers if hasattr(box, "patches")]


def ends_of(box):
    ((low, _), (high, _)) = box.lines[2][0].get_segments()[0]
    return low, high


def test_bars_and_intervals_are_the_scores_and_the_worst_are_marked():
    scores = CARD.attacks["pgd"]
    ax = CARD.plot("pgd")
    boxes = bars_of(ax)
    bars = [box[0] for box in boxes]
    assert [bar.get_width() for bar in bars] == [0.75, 0.25, 0.25]
    assert len({bar.get_facecolor() for bar in bars}) == 2
    assert bars[1].get_facecolor() == bars[2].get_facecolor()  # tied
    for box, each in zip(boxes, scores.per_class[:3], strict=True):
        assert ends_of(box.errorbar) == pytest.approx(each.wilson95)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cat", "dog", "ship", "none"]
    assert [text.get_text() for text in ax.texts] == ["no images"]
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(5 / 12)
    assert "worst class dog" in ax.get_title(loc="left")


def test_the_default_is_the_strongest_attack_within_the_run_s_ball():
    card = scorecard(simulate(profile=True))  # pgd@16/255 is lower, but beyond ε
    averages = {attack: of.average for attack, of in card.attacks.items()}
    assert min(averages, key=averages.get) == "pgd@16/255"
    assert "under aa" in card.plot().get_title(loc="left")
    assert "without an attack" in card.plot("clean").get_title(loc="left")


def test_clean_and_robust_accuracy_stand_on_one_line():
    outcomes = simulate(per_class=20, empty=[4])
    card = scorecard(outcomes)
    ax = card.plot("fgsm", kind="clean")
    table = outcomes.of("fgsm")
    right = (table["correct"].astype(float)).groupby(table["label"]).mean()
    clean = (table["clean_pred"] == table["label"]).astype(float).groupby(table["label"]).mean()
    names = [text.get_text() for text in ax.get_yticklabels()]
    of = outcomes.class_names
    assert names[-1] == of[4]
    assert [right[of.index(name)] for name in names[:-1]] == sorted(right)
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_label() == "clean"]
    assert drawn == pytest.approx([clean[of.index(name)] for name in names[:-1]])
    bars = [box for box in ax.containers if box.get_label().startswith("under")]
    assert [box.lines[0].get_xdata()[0] for box in bars] == pytest.approx(sorted(right))
    each = card.attacks["fgsm"].per_class[of.index(names[0])]
    assert ends_of(bars[0]) == pytest.approx(each.wilson95)
    assert len(ax.get_legend().get_texts()) == 2


def test_confusion_is_pandas_crosstab():
    outcomes = simulate(per_class=20)
    ax = scorecard(outcomes).plot("pgd", kind="confusion")
    table = outcomes.of("pgd")
    wanted = pd.crosstab(table["label"], table["adv_pred"], normalize="index")
    wanted = wanted.reindex(columns=range(10), fill_value=0.0).to_numpy()
    assert np.asarray(ax.images[0].get_array()) == pytest.approx(wanted)
    assert ax.get_ylabel() == "true class"
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert cells[(3, 3)] == f"{100 * wanted[3, 3]:.0f}"
    assert len(cells) == np.count_nonzero(wanted)


def test_a_profile_has_its_average_its_worst_class_and_each_class():
    outcomes = simulate(per_class=20, profile=True)
    ax = scorecard(outcomes).plot("pgd@4/255", kind="profile")
    order = ["pgd@2/255", "pgd@4/255", "pgd", "pgd@16/255"]
    by_class = outcomes.table.groupby(["attack", "label"])["correct"].mean().unstack()
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["average"].get_ydata() == pytest.approx(
        [outcomes.of(attack)["correct"].mean() for attack in order]
    )
    assert lines["worst class"].get_ydata() == pytest.approx(by_class.min(axis=1)[order])
    assert lines["average"].get_xdata() == pytest.approx([e / 255 for e in (2, 4, 8, 16)])
    assert len(ax.lines) == 12
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        "2/255", "4/255", "8/255", "16/255",
    ]  # fmt: skip


def test_differences_of_classes_are_drawn_lowest_first():
    first, second = simulate(per_class=60, seed=11), simulate(per_class=60, seed=12)
    report = compare(first, second)
    ax = report.plot("fgsm")
    right = [of.of("fgsm").groupby("label")["correct"].mean() for of in (first, second)]
    wanted = 100 * (right[1] - right[0])
    assert [box.lines[0].get_xdata()[0] for box in ax.containers] == pytest.approx(sorted(wanted))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[0] == first.class_names[wanted.idxmin()]
    found = report.by_attack["fgsm"]
    lowest = found.per_class[int(wanted.idxmin())]
    assert ends_of(ax.containers[0]) == pytest.approx([100 * end for end in lowest.interval95])
    colours = {
        name: to_hex(box.lines[0].get_color())
        for name, box in zip(names, ax.containers, strict=True)
    }
    assert found.better
    assert found.worse
    assert {colours[first.class_names[k]] for k in found.better} == {"#0072b2"}
    assert {colours[first.class_names[k]] for k in found.worse} == {"#d55e00"}
    with pytest.raises(UserError, match="no attack that both met"):
        report.plot("cw")


@pytest.mark.parametrize("kind", ["classes", "clean", "confusion", "profile"])
def test_charts_are_drawn_where_they_are_asked_for_and_saved(kind, tmp_path):
    card = scorecard(simulate(per_class=8, profile=True, targeted=kind == "confusion"))
    _, axes = plt.subplots(1, 2)
    assert card.plot("pgd", kind=kind, ax=axes[1]) is axes[1]
    assert not axes[0].has_data()
    for ending in ("pdf", "svg"):
        file = tmp_path / f"chart.{ending}"
        card.plot("pgd", kind=kind).figure.savefig(file)
        assert file.stat().st_size > 1000
    assert (tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn_is_said(monkeypatch):
    with pytest.raises(UserError, match=r"'pgb'\. Did you mean pgd"):
        CARD.plot("pgb")
    with pytest.raises(UserError, match=r"'class'\. Did you mean classes"):
        CARD.plot("pgd", kind="class")
    with pytest.raises(UserError, match="ran with one ε"):
        CARD.plot("pgd", kind="profile")
    unknown = scorecard(run([rows("pgd", [0, 1], [0, 0], clean=[-1, -1])], "ab"))
    with pytest.raises(UserError, match="clean predictions are not known"):
        unknown.plot(kind="clean")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'ferd\[plots\]'"):
        CARD.plot("pgd")


def test_an_unknown_ball_leaves_all_attacks_in():
    outcomes = run(
        [rows("a", [0, 1], [0, 0]), rows("b", [0, 1], [1, 0])], "ab",
        {"a": constants("a"), "b": constants("b", 1.0)}, threat={},
    )  # fmt: skip
    assert scorecard(outcomes).strongest == "b"
