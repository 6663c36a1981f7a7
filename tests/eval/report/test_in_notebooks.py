"""Scorecards, comparisons and leaderboards in a notebook: frames against pandas on the outcomes,
tables against the report's own, names that stay text.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

import ferd_eval
from ferd_eval.report import Run, view
from ferd_eval.report.comparison.build import comparison_view
from tests.eval.metrics.simulated_run import CIFAR10, rows, run, simulate

KIND = {"kind": tuple("machine" if n in ("ship", "truck") else "rest" for n in CIFAR10)}


def named(outcomes: ferd_eval.Outcomes, name: str) -> ferd_eval.Outcomes:
    checkpoint = {"name": name, "sha256": name.encode().hex().ljust(64, "0")[:64]}
    return replace(outcomes, manifest={**outcomes.manifest, "checkpoint": checkpoint})


def cells(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of the text of their cells."""
    return [
        [
            [
                html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
                for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            ]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table.*?</table>", page, re.DOTALL)
    ]


def as_text(table) -> list[list[str]]:
    return [list(table.columns), *([str(cell) for cell in row] for row in table.rows)]


def test_a_frame_of_classes_is_pandas_own():
    outcomes = simulate(per_class=24, empty=[4])
    frame = ferd_eval.scorecard(outcomes).to_frame()
    assert list(frame.columns) == [
        "attack", "class", "n", "accuracy", "low", "high", "low_of_all", "high_of_all", "drop",
        "could_be_worst",
    ]  # fmt: skip
    table = outcomes.table
    table = table.assign(
        name=table["label"].map(dict(enumerate(CIFAR10))),
        clean=table["clean_pred"] == table["label"],
    )
    wanted = table.groupby(["attack", "name"]).agg(
        n=("correct", "size"), right=("correct", "sum"), clean=("clean", "sum")
    )
    found = frame[frame["n"] > 0].set_index(["attack", "class"])
    wanted = wanted.loc[found.index]
    assert found["n"].tolist() == wanted["n"].tolist()
    assert found["accuracy"].tolist() == pytest.approx((wanted["right"] / wanted["n"]).tolist())
    drop = (wanted["clean"] - wanted["right"]) / wanted["n"]
    assert found["drop"].tolist() == pytest.approx(drop.tolist())
    for (_, mine), (_, right) in zip(found.iterrows(), wanted.iterrows(), strict=True):
        test = binomtest(int(right["right"]), int(right["n"]))
        alone, together = test.proportion_ci(0.95, "wilson"), test.proportion_ci(1 - 0.05 / 9)
        assert (mine["low"], mine["high"]) == pytest.approx((alone.low, alone.high))
        assert (mine["low_of_all"], mine["high_of_all"]) == pytest.approx(
            (together.low, together.high), abs=1e-9
        )
    empty = frame[frame["class"] == "deer"]
    assert empty[["accuracy", "low", "high", "drop", "could_be_worst"]].isna().all(axis=None)
    assert (frame.dtypes[["accuracy", "low", "drop"]] == np.float64).all()
    assert len(frame) == 40


def test_the_lowest_class_could_be_the_worst():
    frame = ferd_eval.scorecard(simulate(per_class=200)).to_frame()
    for _, of in frame.groupby("attack"):
        assert of.loc[of["accuracy"].idxmin(), "could_be_worst"]
        assert not of.loc[of["accuracy"].idxmax(), "could_be_worst"]


def test_a_frame_of_groups_has_their_images():
    outcomes = simulate(per_class=24)
    frame = ferd_eval.scorecard(outcomes, KIND).to_frame("kind").set_index(["attack", "group"])
    group = outcomes.table["label"].map(dict(enumerate(KIND["kind"])))
    wanted = outcomes.table.groupby([outcomes.table["attack"], group])["correct"].mean()
    assert frame["accuracy"].to_dict() == pytest.approx(wanted.to_dict())
    with pytest.raises(ferd_eval.UserError, match="Did you mean kind"):
        ferd_eval.scorecard(outcomes, KIND).to_frame("kinds")
    with pytest.raises(ferd_eval.UserError, match="It has none; give groups"):
        ferd_eval.scorecard(outcomes).to_frame("kind")


def test_a_frame_of_a_comparison_is_the_difference_of_means():
    first, second = named(simulate(per_class=60), "a"), named(simulate(per_class=60, seed=1), "b")
    report = ferd_eval.compare(first, second)
    frame = report.to_frame().set_index(["attack", "class"])
    means = [
        of.table.groupby(["attack", of.table["label"].map(dict(enumerate(CIFAR10)))])["correct"]
        .mean()
        .loc[frame.index]
        for of in (first, second)
    ]
    assert frame["first"].tolist() == pytest.approx(means[0].tolist())
    assert frame["difference"].tolist() == pytest.approx((means[1] - means[0]).tolist())
    assert ((frame["low"] <= frame["difference"]) & (frame["difference"] <= frame["high"])).all()
    for (attack, name), row in frame.iterrows():
        pair = [of.of(attack) for of in (first, second)]
        pair = [of[of["label"] == CIFAR10.index(name)].set_index("index") for of in pair]
        ours, theirs = (of["correct"] for of in pair)
        only = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        assert row["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0)
    beyond = frame[frame["p_holm"] <= 0.05]
    assert len(beyond)
    signs = np.where(beyond["difference"] > 0, "higher", "lower")
    assert beyond["beyond_chance"].tolist() == signs.tolist()
    assert (frame.loc[frame["p_holm"] > 0.05, "beyond_chance"] == "").all()


def test_a_frame_of_a_leaderboard_has_the_average_and_the_lowest_class(tmp_path):
    both = {"a": simulate(per_class=24), "b": simulate(per_class=24, seed=1)}
    for name, outcomes in both.items():
        named(outcomes, name).save(tmp_path / name)
    board = ferd_eval.leaderboard([tmp_path / "a", tmp_path / "b"], reported="paper")
    frame = board.to_frame()
    measured = frame[~frame["reported"]]
    for name, outcomes in both.items():
        for attack in outcomes.attacks:
            mine = measured[(measured["row"] == name) & (measured["attack"] == attack)]
            mine = mine.set_index("figure")
            right = outcomes.of(attack).groupby("label")["correct"].mean()
            assert mine.loc["average", "value"] == pytest.approx(right.mean())
            assert mine.loc["worst", "value"] == pytest.approx(right.min())
            ends = binomtest(round(240 * right.mean()), 240).proportion_ci(0.95, "wilson")
            assert mine.loc["average", "low"] == pytest.approx(ends.low)
            assert mine.loc["nsd", "value"] == pytest.approx(right.std(ddof=0) / right.mean())
    assert set(measured["images"]) == {240}
    assert frame["reported"].any()
    average = measured[(measured["attack"] == "pgd") & (measured["figure"] == "average")]
    best = average.loc[average["place"] == "best", "value"]
    assert best.item() == average["value"].max()


def test_a_scorecard_shows_the_tables_of_its_report():
    outcomes = simulate(per_class=24, profile=True)
    card = ferd_eval.scorecard(outcomes, KIND)
    (shown,) = view([Run("model.pt", card, outcomes.manifest)]).runs
    page = card._repr_html_()
    found = cells(page)
    summary = view([Run("model.pt", card, outcomes.manifest)]).summary
    parts = [table for part in ("classes", "groups", "profiles") for table in shown.tables[part]]
    assert found == [as_text(summary), *map(as_text, parts)]
    assert len(found) == 4
    for sentence in (*shown.sentences, *shown.warnings):
        assert sentence.replace(" %", "\xa0%").replace("ε = ", "ε\xa0=\xa0") in html.unescape(page)


def test_a_comparison_shows_the_tables_of_its_report():
    report = ferd_eval.compare(named(simulate(), "a"), named(simulate(seed=1), "b"))
    tables = comparison_view(report).tables
    found = cells(report._repr_html_())
    assert found == [as_text(tables[part]) for part in ("overall", "classes", "attacks")]


def test_a_leaderboard_shows_its_rows(tmp_path):
    named(simulate(per_class=24), "a").save(tmp_path / "a")
    board = ferd_eval.leaderboard(tmp_path / "a")
    (table,) = cells(board._repr_html_())
    (row,) = board.boards[0].rows
    scores = board.boards[0].scores(row)
    said = [f"{'≈' if s.tied else ''}{s.figure}{s.interval}" for s in scores]
    assert table[2] == ["a", *said]


def test_names_from_files_stay_text():
    labels = [0, 1] * 8
    hostile = '<script>alert(1)</script>"'
    outcomes = run([rows("pgd", labels, labels)], [hostile, "dog"])
    for shown in (
        ferd_eval.scorecard(named(outcomes, hostile)),
        ferd_eval.compare(named(outcomes, hostile), named(outcomes, "b")),
    ):
        assert "<script" not in shown._repr_html_()
        assert "&lt;script&gt;" in shown._repr_html_()


def test_words_for_the_prompt_are_short(tmp_path):
    outcomes = named(simulate(per_class=24), "a")
    outcomes.save(tmp_path / "a")
    card = ferd_eval.scorecard(outcomes)
    lowest = outcomes.of("aa").groupby("label")["correct"].mean()
    average = f"{100 * lowest.mean():.1f} % on average"
    low, high = (100 * bound for bound in card.attacks["aa"].intervals["worst_class95"])
    worst = f"lowest {CIFAR10[lowest.idxmin()]} at {100 * lowest.min():.1f} % "
    worst += f"({low:.1f} to {high:.1f})"
    assert repr(card) == f"Scorecard(a on cifar10; aa: {average}, {worst})"
    assert repr(card.attacks["aa"]) == f"AttackScores(240 images: {average}, {worst})"
    assert repr(outcomes) == "Outcomes(a on cifar10, 240 images: clean, fgsm, pgd, aa)"
    report = ferd_eval.compare(outcomes, named(simulate(per_class=24, seed=1), "b"))
    assert repr(report).startswith("ComparisonReport(b against a under aa, 240 images: ")
    board = ferd_eval.leaderboard(tmp_path / "a")
    assert repr(board) == "Leaderboard(1 row: cifar10, 240 images, ε = 8/255)"
    nothing = ferd_eval.scorecard(run([rows("pgd", [], [])], "ab"))
    assert repr(nothing) == "Scorecard(model.pt on cifar10; nothing scored)"
    assert nothing.to_frame().empty


def test_json_keeps_its_keys():
    assert "strongest" not in ferd_eval.scorecard(simulate()).to_dict()
