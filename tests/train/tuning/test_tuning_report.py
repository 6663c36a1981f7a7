"""The order of trials, and what is said of them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ferd_train.distillation.teacher import TeacherReading
from ferd_train.study.definition import TeacherSource
from ferd_train.tuning.figures import average_and_worst_class
from ferd_train.tuning.report import Outcome, Ranking
from ferd_train.tuning.space import parse_space
from ferd_train.tuning.trials import candidates, words
from tests.train.student_runs import TINY, log

SPACE = parse_space(["distillation.lr=0.01..1", "synthesis.lr=0.01..1", "loss.gamma=0..0.9"], TINY)
TRIALS, _ = candidates(TINY, SPACE, 0, 6, TeacherSource("t", "t", TeacherReading()), Path("out"))


def ranking(*figures: float | None) -> Ranking:
    """Of trials with these figures; None failed."""
    outcomes = []
    for each, figure in zip(TRIALS, figures, strict=False):
        seen = None
        if figure is not None:
            seen = log(2, validation={"clean": 0.5, "pgd": figure, "pgd_worst_class": figure})
        outcomes.append(Outcome(each, seen, figure, 3.0, None if seen else "it diverged"))
    return Ranking.ordered(outcomes, "a figure", {})


def printed(of: Ranking) -> str:
    screen = Console(width=80)
    with screen.capture() as captured:
        screen.print(of.table())
    return captured.get()


def numbers(of: Ranking) -> list[int]:
    return [each.of.number for each in of.outcomes]


def test_the_figure_is_half_average_and_half_worst_class():
    seen = log(2, validation={"clean": 0.9, "pgd": 0.5, "pgd_worst_class": 0.125})
    assert average_and_worst_class(seen) == 0.3125


def test_higher_is_better_failed_are_last_and_of_equals_the_earlier_is_first():
    assert numbers(ranking(0.25, None, 0.5, 0.125, 0.5)) == [2, 4, 0, 3, 1]
    assert numbers(ranking(0.5, 0.5)) == [0, 1]
    assert numbers(ranking(None, 0.0)) == [1, 0]


def test_distances_are_said_and_doubted():
    of = ranking(0.25, None, 0.5, 0.125, 0.4375)
    said = " ".join(printed(of).split())
    assert "Best is trial 2: 50.0, 25.0 above the recipe unchanged (trial 0)." in said
    assert "Next behind it: trial 4 by 6.2, trial 0 by 25.0." in said
    assert "One seed each cannot tell such differences from noise" in said
    assert of.to_json()["ahead_of_unchanged"] == 0.25


def test_the_recipe_unchanged_may_be_best_or_lost():
    assert "Best is the recipe unchanged: 50.0." in printed(ranking(0.5, 0.25))
    said = " ".join(printed(ranking(None, 0.25)).split())
    assert "the recipe unchanged has no figure to compare with" in said
    assert "No trial is finished" in printed(ranking(None, None))


def test_the_table_fits_eighty_columns():
    text = printed(ranking(0.25, None, 0.5))
    assert max(map(len, text.splitlines())) <= 80
    assert "failed" in text
    assert "50.0" in text


def test_short_names_tell_fields_apart():
    values = {"distillation.lr": 0.1, "synthesis.lr": 0.123456, "loss.gamma": 0.5}
    assert words(values) == "distillation.lr 0.1, synthesis.lr 0.1235, gamma 0.5"
