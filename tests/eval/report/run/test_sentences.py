"""What a reader who reads nothing else learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run, percent, view, write_report


def test_three_sentences_open_the_report(make_run: Any, tmp_path: Path) -> None:
    run = make_run(per_class=400)
    sentences = view([run]).runs[0].sentences
    aa = run.scorecard.attacks["aa"]
    assert len(sentences) == 3
    assert sentences[0].startswith("Under aa at ε = 8/255, the strongest attack run,")
    assert f"{percent(aa.average)} %" in sentences[0]
    assert "images of cifar10" in sentences[0]
    assert aa.worst_class.name in sentences[1]
    assert f"at least {percent(aa.floor95)} %" in sentences[1]
    assert "400 images per class" in sentences[2]
    widest = max(c.wilson95[1] - c.wilson95[0] for c in aa.per_class)
    assert f"up to {percent(widest)} points" in sentences[2]
    low, high = aa.worst_class95
    assert f"lies between {percent(low)} and {percent(high)} % (95 % confidence)" in sentences[2]
    assert "bound true robustness from above" in sentences[2]
    opening = write_report(tmp_path, [run])[1].read_text("utf-8").splitlines()[2:7:2]
    assert opening == list(sentences)


def test_the_strongest_attack_is_sought_within_the_threat_model(make_run: Any) -> None:
    run = make_run(profile=True)
    averages = {a: s.average for a, s in run.scorecard.attacks.items()}
    assert min(averages, key=lambda a: averages[a]) == "pgd@16/255"
    assert view([run]).runs[0].headline == "aa"


def of_two(first: dict[str, int], second: dict[str, int]) -> list[Any]:
    """Views of two runs with so many of 100 images right under each attack."""
    from tests.eval.metrics.simulated_run import rows, run

    labels = [0, 1] * 50
    runs = []
    for name, right in (("a", first), ("b", second)):
        tables = [
            rows(attack, labels, [k if i < n else 1 - k for i, k in enumerate(labels)], labels)
            for attack, n in right.items()
        ]
        outcomes = run(tables, "ab")
        runs.append(Run(name, scorecard(outcomes), outcomes.manifest))
    return list(view(runs).runs)


@pytest.mark.parametrize(
    ("first", "second", "common", "said"),
    [
        (
            {"clean": 90, "pgd": 50, "cw": 48},
            {"clean": 90, "pgd": 40, "cw": 45},
            "pgd",
            ("; cw leaves 48.0 %.", "against 90.0 % without an attack."),
        ),
        ({"pgd": 50, "aa": 30}, {"pgd": 45}, "pgd", ("; aa leaves 30.0 %.", "only attack run")),
        ({"pgd": 50, "aa": 30}, {"pgd": 45, "aa": 40}, "aa", ("that all runs met",) * 2),
    ],
)
def test_several_runs_are_introduced_by_one_attack(
    first: dict[str, int], second: dict[str, int], common: str, said: tuple[str, str]
) -> None:
    for shown, part in zip(of_two(first, second), said, strict=True):
        assert shown.sentences[0].startswith(f"Under {common} at")
        assert part in shown.sentences[0]
        assert (shown.headline, shown.shown.id) == (common, common)


def test_runs_that_share_no_attack_keep_their_own() -> None:
    shown = of_two({"clean": 90, "pgd": 50}, {"clean": 90, "cw": 45})
    assert [run.headline for run in shown] == ["pgd", "cw"]
    assert "the only attack run" in shown[0].sentences[0]


def test_without_an_attack_nothing_is_said_about_robustness(make_run: Any) -> None:
    shown = view([make_run(attacks=["clean"])]).runs[0]
    assert shown.headline is None
    assert "says nothing about robustness" in shown.sentences[0]
    assert "under this attack" not in shown.sentences[1]


def test_few_images_are_called_too_few(make_run: Any) -> None:
    assert "score more images" in view([make_run(per_class=10)]).runs[0].sentences[2]
    assert "do not rank" in view([make_run(per_class=400)]).runs[0].sentences[2]


def second(correct: list[int], n: int, **more: Any) -> str:
    """The second sentence of a run with so many right of n in each class."""
    from tests.eval.metrics.simulated_run import rows, run

    names = [f"c{i}" for i in range(len(correct))]
    labels = [i for i in range(len(correct)) for _ in range(n)]
    wrong = len(correct) - 1
    predicted = [
        i if j < right else (i + 1) % (wrong + 1)
        for i, right in enumerate(correct)
        for j in range(n)
    ]
    outcomes = run([rows("pgd", labels, predicted, clean=labels)], names, **more)
    return view([Run("m", scorecard(outcomes), outcomes.manifest)]).runs[0].sentences[1]


@pytest.mark.parametrize(
    ("correct", "start"),
    [
        ([90, 20, 80], "With 95 % confidence c1 (20.0 %) is the weakest class; "),
        ([30, 20, 80], "With 95 % confidence the weakest class is c1 (20.0 %) or c0 (30.0 %); "),
        (
            [25, 20, 90, 22, 23, 24],
            "With 95 % confidence the weakest class is c1 (20.0 %), c3 (22.0 %), c4 (23.0 %) or "
            "one of 2 more; ",
        ),
        (
            [25, 20, 90, 22, 23],
            "With 95 % confidence the weakest class is c1 (20.0 %), c3 (22.0 %), c4 (23.0 %) or "
            "c0 (25.0 %); ",
        ),
        ([25, 20, 22, 23], "No class can be excluded as the weakest (c1 is lowest here, 20.0 %); "),
        ([20, 25], "With 95 % confidence the weakest class is c0 (20.0 %) or c1 (25.0 %); "),
        ([100], "Only c0 has images (100.0 %); "),
    ],
)
def test_the_second_sentence_names_what_cannot_be_excluded(correct: list[int], start: str) -> None:
    sentence = second(correct, 100)
    assert sentence.startswith(start)
    assert "with 95 % confidence every class is right at least" in sentence


def test_an_audit_does_not_say_which_class_is_the_weakest() -> None:
    sentence = second([20, 60], 100, audits={"pgd": [0, 100]})
    assert sentence.startswith("c0 is the lowest class among these images (20.0 %), though others")


def test_a_floor_of_nothing_is_not_sold_as_one(make_run: Any) -> None:
    from tests.eval.metrics.simulated_run import rows, run

    outcomes = run([rows("pgd", [0, 0, 1, 1], [1, 1, 1, 1])], "ab")
    sentences = view([Run("m", scorecard(outcomes), outcomes.manifest)]).runs[0].sentences
    assert "no floor above 0 can be claimed" in sentences[1]


def test_a_targeted_attack_is_described_as_one(make_run: Any) -> None:
    shown = view([make_run(attacks=["clean"], targeted=True)]).runs[0]
    assert shown.headline == "targeted"
    assert "whatever class the attack aims at" in shown.sentences[0]


@pytest.mark.parametrize(
    "options", [{"names": ["only"]}, {"names": ["a", "b"]}, {"empty": range(9)}, {"per_class": 1}]
)
def test_odd_runs_have_a_report(make_run: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    files = write_report(tmp_path, [make_run(**options)])
    text = "".join(file.read_text("utf-8") for file in files)
    assert not re.search(r"\b(nan|None|inf)\b", text.replace("'none'", ""))
    assert "certified" not in text.lower()


def test_outcomes_of_another_tool_have_a_report(tmp_path: Path) -> None:
    from ferd_eval.results.outcomes import Outcomes
    from tests.eval.metrics.simulated_run import rows, run

    table = run([rows("pgd", [0, 1, 1], [0, 0, 1], clean=[-1, -1, -1])], "ab").table
    manifest = {"dataset": {"class_names": ["a", "b"]}, "attacks": {"pgd": {}}}
    outcomes = Outcomes(table, manifest)
    files = write_report(tmp_path, [Run("import", scorecard(outcomes), manifest)])
    assert "Under pgd, the only attack run" in files[1].read_text("utf-8")


def test_classes_without_images_are_named(make_run: Any) -> None:
    warnings = view([make_run(empty=[2, 5])]).runs[0].warnings
    (warning,) = (each for each in warnings if "no images" in each)
    assert warning == "2 of 10 classes have no images and are left out of every figure: bird, dog."


def test_the_report_names_what_it_takes_to_repeat_it(make_run: Any, tmp_path: Path) -> None:
    text = write_report(tmp_path, [make_run()])[1].read_text("utf-8")
    for fact in ("ab" * 32, "cd" * 32, "resnet18", "float32", "| Seed | 0 |", "2.6.0", "2/255"):
        assert fact in text
