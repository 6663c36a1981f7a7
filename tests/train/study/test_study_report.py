"""The report of a study: its figures by an independent reading, its verdicts, what is not there."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest
from scipy import stats

from ferd_eval.metrics import compare_methods
from ferd_eval.results.outcomes import Outcomes
from ferd_train.study.parse import read_study
from ferd_train.study.report import write_study_report
from ferd_train.study.status import TrialState, expected_seconds, states, time_left
from tests.eval.metrics.simulated_run import simulate
from tests.train.study.study_files import (
    accuracies,
    lay_out,
    outcomes_of,
    pretend_scored,
    pretend_trained,
    study_file,
)

TEXT = """
title = "A <i>study</i> | of"
dataset = "cifar10"
seeds = [3, 1, 2]
baseline = "plain"
[teachers]
"=T|<b>" = "teacher.safetensors"
[methods.plain]
recipe = "tiny.toml"
[methods."=cmd|<script>"]
recipe = "tiny.toml"
set = { "reweighting.strategy" = "uniform", epochs = 5 }
[methods.short]
recipe = "tiny.toml"
set = { "synthesis.lambda_uni" = 0 }
[evaluations.full]
attacks = "pgd"
[evaluations.few]
attacks = "fgsm"
per_class = 10
"""
ODD = "=cmd|<script>"
ATTACKS = {"full": ("clean", "pgd"), "few": ("clean", "fgsm")}
PER_CLASS = {"full": 30, "few": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[TrialState]]:
    """The teacher and two rows are complete; of the third one seed is, one failed, one is begun."""
    folder = lay_out(tmp_path_factory.mktemp("study") / "files")
    study = read_study(study_file(folder, TEXT))
    of_all = states(study, folder / "work")
    for number, state in enumerate(of_all):
        row = state.trial.row
        if row is None:
            digest, recipe = f"{number:064x}", {}
        else:
            if row.name == "short" and state.trial.seed == 1:
                state.folder.mkdir(parents=True)
                state.fail("it <b>diverged</b> | so")
                continue
            digest = pretend_trained(state, number, [(2.0, 0.0), (1.0, number)])
            recipe = {"arch": "a", "name": row.name, "seed": state.trial.seed}
            if row.name == "short" and state.trial.seed == 2:
                continue
        for evaluation in study.evaluations:
            run = outcomes_of(number, ATTACKS[evaluation.name], PER_CLASS[evaluation.name])
            pretend_scored(state.evaluation(evaluation), run, digest, recipe)
    page = write_study_report(study, of_all, folder / "work/report")
    assert page == folder / "work/report/study.md"
    return page.parent, list(of_all)


def runs_of(of_all: list[TrialState], name: str | None, evaluation: str) -> dict[int, Outcomes]:
    return {
        state.trial.seed or 0: Outcomes.load(state.folder / evaluation)
        for state in of_all
        if (state.trial.row.name if state.trial.row else None) == name
        and (state.folder / evaluation / "outcomes.parquet").exists()
    }


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_means_and_intervals_are_those_of_the_outcomes(made):
    folder, of_all = made
    rows = read_csv(folder / "study.csv")
    assert [row["row"] for row in rows] == ["teacher", "plain", f"'{ODD}", "short"]
    assert {row["teacher"] for row in rows} == {"'=T|<b>"}
    figures = {"avg": "mean", "worst": "min", "NSD": None}
    for row, name in zip(rows, (None, "plain", ODD, "short"), strict=True):
        # Clean accuracy is of the evaluation with more images.
        for attack, evaluation in (("clean", "full"), ("pgd", "full"), ("fgsm", "few")):
            runs = runs_of(of_all, name, evaluation)
            assert row[f"{attack} avg seeds"] == str(len(runs))
            for heading, method in figures.items():
                values = []
                for run in runs.values():
                    each_K = accuracies(run, attack)
                    nsd = each_K.std() / each_K.mean()
                    values.append(float(getattr(each_K, method)() if method else nsd))
                expected = pytest.approx(statistics.mean(values), abs=1e-12)
                assert float(row[f"{attack} {heading}"]) == expected
                half = row[f"{attack} {heading} half95"]
                if len(values) < 3:
                    assert half == ""
                    continue
                low, high = stats.t.interval(0.95, len(values) - 1, loc=0, scale=stats.sem(values))
                assert float(half) == pytest.approx((high - low) / 2, rel=1e-9)


@pytest.mark.parametrize(("classes", "lowest"), [(20, 1), (100, 10)])
def test_of_many_classes_the_lowest_tenth_stands_for_the_lowest(made, tmp_path, classes, lowest):
    study = read_study(made[0].parent.parent / "s.toml")
    (teacher,) = (each for each in states(study, tmp_path) if each.trial.row is None)
    run = simulate([f"class {k}" for k in range(classes)], per_class=97, attacks=("clean", "pgd"))
    pretend_scored(teacher.evaluation(study.evaluations[0]), run, "a" * 64, {})
    write_study_report(study, [teacher], tmp_path / "report")
    (row,) = read_csv(tmp_path / "report/study.csv")
    expected = sorted(accuracies(run, "pgd"))[:lowest]
    assert float(row["pgd worst"]) == pytest.approx(statistics.mean(expected))


def test_seconds_and_steps(made):
    folder, of_all = made
    rows = {row["row"]: row for row in read_csv(folder / "study.csv")}
    numbers = [i for i, s in enumerate(of_all) if s.trial.row and s.trial.row.name == "plain"]
    assert float(rows["plain"]["seconds making"]) == 3.0
    assert float(rows["plain"]["seconds learning"]) == statistics.mean(numbers)
    # (3 − 1) and (5 − 1) epochs of three steps.
    assert [rows[name]["student steps"] for name in ("plain", f"'{ODD}")] == ["6", "12"]
    assert (rows["teacher"]["student steps"], rows["teacher"]["seconds making"]) == ("", "")
    assert [rows[name]["trained"] for name in ("plain", "short")] == ["3", "2"]


def test_verdicts_are_those_of_the_comparison_by_seed(made):
    folder, of_all = made
    lines = read_csv(folder / "comparisons.csv")
    assert len(lines) == 2 * 3
    for line in lines:
        if line["row"] == "short":
            assert line["verdict"] == ""
            assert line["why not"] == (
                f"short and plain have seeds 3 in common under {line['attack']}; a verdict on "
                "methods needs 3 or more."
            )
            continue
        ours, theirs = (runs_of(of_all, name, line["evaluation"]) for name in ("plain", ODD))
        seeds = [1, 2, 3]
        found = compare_methods(
            [ours[seed] for seed in seeds],
            [theirs[seed] for seed in seeds],
            line["attack"],
            by_seed=True,
        )
        assert (line["verdict"], line["why not"]) == (str(found.verdict), "")
        for heading, delta in (
            ("average", found.average),
            ("worst", found.worst_class),
            ("nsd debiased", found.nsd),
        ):
            told = [float(line[f"{heading}{end}"]) for end in ("", " low", " high")]
            assert told == pytest.approx([delta.value, *delta.interval95])
        # By hand: the mean over seeds of the difference of the means over images.
        by_hand = statistics.mean(
            accuracies(theirs[seed], line["attack"]).mean()
            - accuracies(ours[seed], line["attack"]).mean()
            for seed in seeds
        )
        assert float(line["average"]) == pytest.approx(by_hand)


def test_the_page_prints_the_same(made):
    folder, _ = made
    page = (folder / "study.md").read_text(encoding="utf-8")
    tables = [line.strip("| ").split(" | ") for line in page.splitlines() if line[:2] == "| "]
    heading = next(line for line in tables if line[0] == "row")
    rows = {line[0]: dict(zip(heading, line, strict=True)) for line in tables[:6]}
    row = next(each for each in read_csv(folder / "study.csv") if each["row"] == "plain")
    for title, attack in (("Clean", "clean"), ("PGD", "pgd"), ("FGSM", "fgsm")):
        mean, half = (100 * float(row[f"{attack} worst{end}"]) for end in ("", " half95"))
        assert rows["plain"][f"{title} worst"] == f"{mean:.1f} ± {half:.1f}"
        nsd, half = (float(row[f"{attack} NSD{end}"]) for end in ("", " half95"))
        assert rows["plain"][f"{title} NSD"] == f"{nsd:.3f} ± {half:.3f}"
    assert rows["plain"]["seeds"] == "3 of 3"
    assert rows["short"]["seeds"] == "2 of 3"
    assert rows["short"]["PGD avg"].endswith(" (1 of 3)")
    verdicts = {line["verdict"] for line in read_csv(folder / "comparisons.csv")} - {""}
    assert all(f" {verdict} |" in page for verdict in verdicts)


def test_what_failed_and_what_is_missing_is_named(made):
    folder, _ = made
    page = (folder / "study.md").read_text(encoding="utf-8")
    assert "8 of 10 networks are finished, 1 failed, 1 are missing." in page
    failed = page.partition("## Failed")[2].partition("##")[0]
    missing = page.partition("## Missing")[2].partition("##")[0]
    assert "short/seed-1: it &lt;b>diverged&lt;/b> \\| so" in failed
    assert "short/seed-2: full, few" in missing
    assert "seed-1" not in missing


def test_names_are_escaped_everywhere(made):
    folder, _ = made
    page = (folder / "study.md").read_text(encoding="utf-8")
    for raw in ("<i>", "<script>", "<b>"):
        assert raw not in page
    assert "=cmd\\|&lt;script>" in page
    assert "<script>alert" not in (folder / "leaderboard.html").read_text(encoding="utf-8")
    for file in ("study.csv", "comparisons.csv"):
        for row in read_csv(folder / file):
            assert all(not (cell or "").startswith(("=", "@", "+")) for cell in row.values())
    # No name leads out of the folder or is a folder of folders.
    work = folder.parent
    assert {each.name for each in work.iterdir()} == {"report", "%3DT%7C%3Cb%3E"}


def test_the_leaderboard_has_every_row_that_was_scored(made):
    folder, _ = made
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    by_images = {table["images"]: table["rows"] for table in board["tables"]}
    assert {*by_images} == {90, 30}
    for rows in by_images.values():
        assert {row["name"]: row["seeds"] for row in rows} == {
            "teacher": 1,
            "plain": 3,
            ODD: 3,
            "short": 1,
        }


def test_time_left_follows_from_finished_trials(made):
    _, of_all = made
    study = read_study(made[0].parent.parent / "s.toml")
    by_name = {str(state.trial.path): state for state in of_all}
    begun = next(state for path, state in by_name.items() if path.endswith("short/seed-2"))
    failed = next(state for path, state in by_name.items() if path.endswith("short/seed-1"))
    # One seed of the row is scored: 1.25 seconds an attack, two attacks an evaluation.
    assert sum(expected_seconds([begun], of_all, study.evaluations)) == pytest.approx(2 * 2 * 1.25)
    own = [s for s in of_all if s.trial.row and s.trial.row.name == "short" and s.is_trained()]
    trained = statistics.mean(state.training_time().total for state in own)
    of_failed = expected_seconds([failed], of_all, study.evaluations)
    assert sum(of_failed) == pytest.approx(trained + 2 * 2 * 1.25)
    assert time_left(of_failed, 2) == f"about {sum(of_failed) / 2:.0f} s left"
    assert time_left([*of_failed, None], 2) == f"at least {sum(of_failed) / 2:.0f} s left"
    nothing = expected_seconds([failed], [failed], study.evaluations)
    assert nothing == [None] * 3
    assert time_left(nothing, 1) == "time left not known yet"


def test_outcomes_of_another_network_do_not_count(made, tmp_path):
    """A student trained anew is not what the old outcomes speak of."""
    _, of_all = made
    state = next(s for s in of_all if s.trial.row and s.trial.row.name == "plain")
    study = read_study(made[0].parent.parent / "s.toml")
    elsewhere = TrialState(state.trial, tmp_path / "cell")
    digest = pretend_trained(elsewhere, 7, [(1.0, 1.0)])
    run, evaluation = outcomes_of(7, ATTACKS["full"]), study.evaluations[0]
    pretend_scored(elsewhere.evaluation(evaluation), run, "f" * 64, {"seed": 0})
    assert elsewhere.left(study.evaluations) == ("full", "few")
    pretend_scored(elsewhere.evaluation(evaluation), run, digest, {"seed": 0})
    assert elsewhere.left(study.evaluations) == ("few",)
