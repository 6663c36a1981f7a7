"""Are some classes easier to be attacked into? One answer, in every format."""

from __future__ import annotations

import csv
import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run, view, write_report
from ferd_eval.report.run.targets import QUESTION
from tests.eval.metrics.simulated_run import CIFAR10, constants, rows, run
from tests.eval.report.rows import html_rows, markdown_rows


def aimed_run(
    easy: int | None, *, targets: int = 9, clean_known: bool = True, seed: int = 0
) -> Run:
    """Ten classes of 30 images, each aimed at other classes; one may be reached more often."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 30)
    clean = np.where(random.random(300) < 0.2, (labels + random.integers(1, 10, 300)) % 10, labels)
    known = clean if clean_known else np.full(300, -1)
    soft = random.random(300) < 0.4
    tables = [rows("clean", labels, clean)] if clean_known else []
    for shift in range(1, targets + 1):
        aims = (labels + shift) % 10
        reached = random.random(300) < np.where(aims == easy, 0.7, np.where(soft, 0.5, 0.1))
        tables.append(rows("targeted", labels, np.where(reached, aims, clean), known, targets=aims))
    # Untargeted: whatever breaks goes to class 3.
    broken = random.random(300) < 0.5
    attacked = np.where(broken & (labels != 3), 3, clean)
    tables.append(rows("pgd", labels, attacked, known))
    outcomes = run(tables, CIFAR10, {each["attack"].iloc[0]: constants("pgd") for each in tables})
    return Run("model.pt", scorecard(outcomes), outcomes.manifest)


def percent_text(value: float | None) -> str:
    """The printed form, written down a second time."""
    if value is None:
        return "–"
    text = f"{100 * value:.1f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def ends_text(ends: list[float] | None) -> str:
    return "–" if ends is None else f"{percent_text(ends[0])} to {percent_text(ends[1])}"


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def table_rows(text: str, markdown: bool) -> list[list[str]]:
    rows = (markdown_rows if markdown else html_rows)(text)
    return [[unescape(cell) for cell in row] for row in rows]


@pytest.mark.parametrize(
    "options",
    [{"easy": 2}, {"easy": None}, {"easy": 2, "clean_known": False}, {"easy": 2, "targets": 3}],
)
def test_every_figure_is_the_same_in_every_format(tmp_path: Path, options: dict[str, Any]) -> None:
    files = {
        file.name: file.read_text("utf-8")
        for file in write_report(tmp_path, [aimed_run(**options)])
    }
    attacks = json.loads(files["scorecard.json"])["attacks"]
    long = {
        (row["attack"], row["scope"], row["name"], row["metric"]): row
        for row in csv.DictReader(files["report.csv"].splitlines())
    }

    def agree(attack: str, name: str, metric: str, value: float | None, text: str) -> None:
        row = long[attack, "class" if name else "overall", name, metric]
        assert row["value"] == ("" if value is None else repr(value))
        assert row["printed"] == ("" if value is None else text.replace("−", "-"))

    both = [
        table_rows(files["report.md"], markdown=True),
        table_rows(files["report.html"], markdown=False),
    ]
    effect = attacks["targeted"]["toward"]
    agree("targeted", "", "target_p", effect["p"], p_text(effect["p"]))
    agree("targeted", "", "target_images", 300, "300")
    for rows_ in both:
        assert [row for row in rows_ if row[0] == "targeted" and row[-1] == p_text(effect["p"])]
    for each in effect["per_target"]:
        name = each["name"]
        for key in ("success", "excess", "clean_rate", "clean_share"):
            agree("targeted", name, f"target_{key}", each[key], percent_text(each[key]))
        for key in ("success95", "excess95"):
            for end, side in enumerate(("low", "high")):
                value = each[key][end]
                agree("targeted", name, f"target_{key}_{side}", value, percent_text(value))
        line = [
            name, str(each["n"]), percent_text(each["success"]), ends_text(each["success95"]),
            percent_text(each["excess"]), ends_text(each["excess95"]),
            percent_text(each["clean_rate"]), percent_text(each["clean_share"]),
        ]  # fmt: skip
        for rows_ in both:
            assert line in rows_
    shift = attacks["pgd"]["toward"]
    if not options.get("clean_known", True):
        assert shift is None
        return
    agree("pgd", "", "share_p", shift["p"], p_text(shift["p"]))
    moved = shift["total_variation"]
    agree("pgd", "", "share_total_variation", moved, percent_text(moved))
    for text in (files["report.md"], unescape(files["report.html"]).replace("\u00a0", " ")):
        assert f"{percent_text(moved)} % of the errors would have to end elsewhere" in text
    for each in shift["per_target"]:
        name = each["name"]
        agree("pgd", name, "share_clean", each["clean_share"], percent_text(each["clean_share"]))
        agree("pgd", name, "share_change", each["change"], percent_text(each["change"]))
        for end, side in enumerate(("low", "high")):
            value = each["change95"][end]
            agree("pgd", name, f"share_change95_{side}", value, percent_text(value))
        line = [
            name, str(each["errors"]), percent_text(each["share"]), str(each["clean_errors"]),
            percent_text(each["clean_share"]), percent_text(each["change"]),
            ends_text(each["change95"]),
        ]  # fmt: skip
        for rows_ in both:
            assert line in rows_


def answers(run: Run) -> dict[str, str]:
    found, *_ = view([run]).runs[0].tables["targets"]
    assert found.title == QUESTION
    return {str(row[0]): str(row[1]) for row in found.rows}


def test_an_easier_class_is_named_with_its_points_and_its_clean_errors() -> None:
    run = aimed_run(2)
    effect = run.scorecard.attacks["targeted"].toward
    bird = effect.per_target[2]
    assert effect.easier == (2,)
    said = answers(run)["targeted"]
    assert said.startswith("Yes: aimed at the same images, targeted reaches bird (+")
    assert f"bird (+{percent_text(bird.excess)}) more often" in said
    assert f"without an attack bird receives {percent_text(bird.clean_share)} %" in said
    assert "without an attack" not in answers(aimed_run(2, clean_known=False))["targeted"]


def test_without_an_effect_the_answer_says_what_remains_possible() -> None:
    run = aimed_run(None, seed=1)
    effect = run.scorecard.attacks["targeted"].toward
    assert effect.p > 0.05
    widest = max(abs(end) for each in effect.per_target for end in each.excess95)
    said = answers(run)["targeted"]
    assert said.startswith("Not shown:")
    assert f"up to {percent_text(widest)} points remain possible" in said


def test_an_untargeted_attack_says_where_its_errors_move() -> None:
    run = aimed_run(None)
    shift = run.scorecard.attacks["pgd"].toward
    assert shift.more == (3,)
    change = percent_text(shift.per_target[3].change)
    assert answers(run)["pgd"].startswith(f"Errors move: cat (+{change}) takes a larger share")


def test_where_an_image_is_aimed_at_some_classes_only_the_table_says_so() -> None:
    for targets, said in ((3, True), (9, False)):
        _, table, *_ = view([aimed_run(2, targets=targets)]).runs[0].tables["targets"]
        assert ("was aimed at 3 classes only" in table.note) is said


def test_nothing_is_said_without_an_attack(make_run: Any) -> None:
    assert not view([make_run(attacks=("clean",))]).runs[0].tables["targets"]


def test_only_untargeted_attacks_hint_at_the_targeted_one(make_run: Any) -> None:
    for options, hinted in (({}, True), ({"targeted": True}, False)):
        found, *_ = view([make_run(**options)]).runs[0].tables["targets"]
        assert ("--attacks clean,targeted" in found.note) is hinted
