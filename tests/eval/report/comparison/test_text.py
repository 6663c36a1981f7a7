"""The verdict in words: one sentence for each, with its numbers."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from ferd_eval.metrics import Comparison, Delta, Verdict
from ferd_eval.metrics.comparison.checkpoints import ClassDelta, assemble
from ferd_eval.report import render
from ferd_eval.report.comparison.build import comparison_view
from ferd_eval.report.comparison.model import ComparisonReport
from ferd_eval.report.comparison.terminal import render_comparison
from ferd_eval.report.comparison.text import headline
from ferd_eval.report.comparison.write import comparison_page
from ferd_eval.report.format import (
    difference,
    percent_end,
    probability,
    ratio_difference,
    ratio_end,
)
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_group import RunGroup


def delta(low: float, high: float, value: float | None = None) -> Delta:
    value = (low + high) / 2 if value is None else value
    return Delta(0.5, 0.5 + value, value, (low, high), 0.023)


def found(
    average: Delta, lowest: Delta, classes: Any = (), margin: float = 0.01, count: int = 4
) -> Comparison:
    """A comparison of `count` classes, the first of which differ by so much beyond chance."""
    values = [*classes, *[-0.001] * (count - len(classes))]
    per_class = [
        ClassDelta(
            k, f"c{k}", 100, 0.5, 0.5 + value, value, (value - 0.01, value + 0.01),
            *((0.001, 0.001) if k < len(classes) else (0.9, 1.0)),
        )
        for k, value in enumerate(values)
    ]  # fmt: skip
    deltas = {
        "average": average,
        "worst_class": lowest,
        "worst_10pct": lowest,
        "sd": delta(-0.01, 0.01),
        "nsd": delta(-0.02, 0.02),
    }
    return assemble(
        "pgd", 100 * count, (1, 1), per_class, deltas, nsd_raw=(0.4, 0.4), margin=margin
    )


def report(comparison: Comparison, **more: Any) -> ComparisonReport:
    manifest = {
        "attacks": {"pgd": {"eps": 0.1, "eps_text": "0.1"}},
        "dataset": {"name": "d", "class_names": ["c0"]},
    }
    outcomes = Outcomes(pd.DataFrame(), manifest)
    sides = [RunGroup(name, (Path(f"/{name}"),), (outcomes,)) for name in ("A", "B")]
    return ComparisonReport(*sides, "pgd", {"pgd": comparison}, False, "", (), **more)


UP, DOWN, AROUND = delta(0.001, 0.033, 0.017), delta(-0.03, -0.02, -0.025), delta(-0.005, 0.007)

SENTENCES = {
    Verdict.DOMINATES: (
        found(UP, UP, [0.1, 0.05], count=2),
        "Under pgd at ε = 0.1, B dominates A: c0 and c1 are higher beyond chance (at 5 % over all "
        "2 classes together, Holm) and no class is lower among these images; the average is 1.7 "
        "points higher (95 % interval 0.1 to 3.3), and its lowest class is 1.7 points higher (95 % "
        "interval 0.1 to 3.3).",
    ),
    Verdict.FAIRER: (
        found(delta(0.005, 0.016, 0.011), UP),
        "Under pgd at ε = 0.1, B is fairer than A at no average cost: its lowest class is 1.7 "
        "points higher (95 % interval 0.1 to 3.3), and the average does not lose more than 1 point "
        "(+1.1, 0.5 to 1.6).",
    ),
    Verdict.LEVELS_DOWN: (
        found(DOWN, UP, [-0.1]),
        "Under pgd at ε = 0.1, B is fairer than A by levelling down: its lowest class is 1.7 "
        "points higher (95 % interval 0.1 to 3.3), but the average is 2.5 points lower (95 % "
        "interval −3.0 to −2.0); c0 is lower beyond chance (at 5 % over all 4 classes "
        "together, Holm).",
    ),
    Verdict.STRONGER: (
        found(UP, AROUND),
        "Under pgd at ε = 0.1, B is stronger than A, not fairer: the average is 1.7 points higher "
        "(95 % interval 0.1 to 3.3), while its lowest class is not shown to be higher (+0.1, −0.5 "
        "to 0.7).",
    ),
    Verdict.WEAKER: (
        found(DOWN, AROUND, [0.1]),
        "Under pgd at ε = 0.1, B is weaker than A: the average is 2.5 points lower (95 % interval "
        "−3.0 to −2.0), and its lowest class is not shown to differ (+0.1, −0.5 to 0.7); c0 is "
        "higher beyond chance (at 5 % over all 4 classes together, Holm).",
    ),
    Verdict.MIXED: (
        found(AROUND, AROUND, [0.1, -0.2]),
        "Under pgd at ε = 0.1, B against A is mixed: c0 is higher and c1 is lower beyond chance "
        "(at 5 % over all 4 classes together, Holm); the average is not shown to differ "
        "(+0.1, −0.5 to 0.7), and its lowest class is not shown to differ (+0.1, −0.5 to 0.7).",
    ),
    Verdict.INDISTINGUISHABLE: (
        found(AROUND, AROUND),
        "Under pgd at ε = 0.1, B and A cannot be told apart: neither the average (+0.1, −0.5 to "
        "0.7) nor the lowest class (+0.1, −0.5 to 0.7) is shown to differ, nor does any single "
        "class beyond chance (at 5 % over all 4 classes together, Holm); that does not show them "
        "to be equal.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verdict", list(Verdict))
def test_each_verdict_can_be_quoted(verdict: Verdict) -> None:
    comparison, sentence = SENTENCES[verdict]
    assert comparison.verdict == verdict
    assert headline(report(comparison)) == sentence


@pytest.mark.parametrize(
    ("comparison", "parts"),
    [
        (found(delta(-0.015, 0.004), UP), ("but a loss of 1 point on average is not excluded",)),
        (found(delta(-0.015, 0.004), UP, margin=0.02), ("does not lose more than 2 points",)),
        (found(UP, DOWN), ("not fairer", "while its lowest class is 2.5 points lower")),
        (found(AROUND, DOWN, [0.1]), ("c0 is higher", "its lowest class is 2.5 points lower")),
        (found(AROUND, AROUND, [-0.1]), ("B is weaker", "c0 is lower beyond", "none higher")),
        (found(AROUND, DOWN), ("B is weaker", "lowest class is 2.5 points lower", "not shown")),
        (found(DOWN, DOWN), ("average is 2.5 points lower", "class is 2.5 points lower")),
        (
            found(AROUND, AROUND, [0.1, 0.2, 0.3, 0.4, 0.5], count=6),
            ("c4, c3, c2 and 2 more are higher",),
        ),
        (
            found(AROUND, Delta(0.5, 0.5, 0.0, None, None)),
            ("(0.0, no interval: a class has too few images)",),
        ),
        (found(Delta(*[None] * 5), Delta(*[None] * 5)), ("neither the average (no value)",)),
    ],
)  # fmt: skip
def test_reasons_name_what_decided(comparison: Comparison, parts: tuple[str, ...]) -> None:
    sentence = headline(report(comparison))
    assert all(part in sentence for part in parts), sentence


def test_of_many_classes_the_lowest_tenth_is_spoken_of() -> None:
    view = comparison_view(report(found(delta(0.005, 0.016), UP, count=100)))
    assert "its lowest tenth of the classes is 1.7 points higher" in view.headline
    assert "2.3 points in the lowest tenth of the classes" in view.sentences[0]
    assert view.tables["attacks"].columns[3] == "Worst 10 %"
    fewer = comparison_view(report(found(delta(0.005, 0.016), UP, count=99)))
    assert "its lowest class is" in fewer.headline


def test_how_sure_it_is_stands_in_words() -> None:
    view = comparison_view(report(found(AROUND, AROUND)))
    assert view.sentences[0] == (
        "A true difference of less than 2.3 points in the lowest class or 2.3 points on average "
        "would be missed more often than one time in five."
    )
    assert "400 images (100 per class), the same for both sides" in view.sentences[1]
    of_methods = replace(found(AROUND, AROUND), seeds=(3, 4))
    text = comparison_view(report(of_methods)).sentences[1]
    assert "3 and 4 networks a side" in text
    unknown = replace(found(AROUND, AROUND), average=Delta(*[None] * 5))
    unknown = replace(unknown, worst_class=Delta(0.5, 0.5, 0.0, None, None))
    assert not any("true difference" in each for each in comparison_view(report(unknown)).sentences)


STUCK = Delta(0.0, 0.0, 0.0, (-0.02, 0.02), None)


@pytest.mark.parametrize(
    ("average", "lowest", "parts"),
    [
        (AROUND, STUCK, ("told of a difference in the lowest class: it is 0.0 %", "2.3 points on")),
        (STUCK, STUCK, ("in the lowest class or on average: these are 0.0 % on both sides.",)),
        (
            Delta(1.0, 1.0, 0.0, None, None),
            Delta(1.0, 1.0, 0.0, None, None),
            ("these are 100.0 % on both sides.",),
        ),
        (replace(AROUND, detectable=0.0003), UP, ("2.3 points in", "0.03 points on average")),
    ],
)
def test_no_difference_is_said_to_be_detectable_where_none_can_be_told(
    average: Delta, lowest: Delta, parts: tuple[str, ...]
) -> None:
    text = comparison_view(report(found(average, lowest))).sentences[0]
    assert all(part in text for part in parts), text
    assert "0.0 points" not in text
    assert ("would be missed" in text) == (average != lowest)


def test_a_figure_at_the_end_of_its_scale_says_so_in_place_of_an_interval() -> None:
    stuck = replace(STUCK, interval95=None)
    assert "(0.0, no interval: it is 0.0 % on both sides)" in headline(report(found(AROUND, stuck)))


def test_an_interval_that_leaves_out_zero_without_counting_says_why() -> None:
    comparison = found(AROUND, AROUND)
    own = replace(comparison.per_class[1], interval95=(0.003, 0.2), p=0.02, p_holm=0.063)
    comparison = replace(
        comparison, per_class=(comparison.per_class[0], own, *comparison.per_class[2:])
    )
    view = comparison_view(report(comparison))
    for text in (
        view.taken_alone,
        view.tables["classes"].note,
        render.text("compare.md.j2", view=view),
    ):
        assert "interval of c1 (Holm p 0.063) leaves out 0" in text
        assert "over all 4 classes together, Holm" in text
    assert "beyond chance (at 5 % over all 4 classes together, Holm)" in view.headline
    assert comparison_page(view).count("interval of c1 (Holm") == 2  # below chart and table
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_comparison(view))
    assert "The interval of c1 (Holm p 0.063)" in console.export_text()


def test_where_intervals_and_tests_agree_nothing_is_explained() -> None:
    assert comparison_view(report(found(AROUND, AROUND))).taken_alone == ""
    counted = found(UP, UP, [0.1, 0.05])
    assert comparison_view(report(counted)).taken_alone == ""
    many = replace(
        counted,
        per_class=tuple(replace(c, interval95=(-0.2, -0.1)) for c in counted.per_class),
    )
    text = comparison_view(report(many)).taken_alone
    assert text.startswith("The intervals of c2 (Holm p 1.000) and c3 (Holm p 1.000) leave out 0")


def test_no_word_claims_significance_of_nothing() -> None:
    for comparison, _ in SENTENCES.values():
        view = comparison_view(report(comparison))
        text = " ".join(
            [view.headline, *view.sentences, *(table.note for table in view.tables.values())]
        )
        assert "significan" not in text
        assert "certified" not in text


def test_the_printed_end_never_hides_what_decided() -> None:
    assert percent_end(0.0004).text == "0.04"
    assert percent_end(-0.0004).text == "−0.04"
    assert percent_end(-0.00996, (0.0, -0.01)).text == "−0.996"
    assert percent_end(-0.0104, (0.0, -0.01)).text == "−1.04"
    assert percent_end(0.0).text == "0.0"
    assert percent_end(-0.01, (0.0, -0.01)).text == "−1.0"
    assert percent_end(1e-15).text == "0.0"
    assert percent_end(None).text == "–"
    assert percent_end(0.0234).text == "2.3"
    assert ratio_end(-0.0003).text == "−0.0003"
    assert ratio_end(0.0123).text == "0.012"


def test_differences_carry_their_sign() -> None:
    assert [difference(x).text for x in (0.017, -0.017, 0.0, 0.0004, -0.0004, None)] == [
        "+1.7", "−1.7", "0.0", "0.0", "0.0", "–",
    ]  # fmt: skip
    assert [ratio_difference(x).text for x in (0.0221, -0.0221, 0)] == ["+0.022", "−0.022", "0.000"]


def test_a_p_value_shows_on_which_side_of_five_per_cent_it_lies() -> None:
    assert [probability(p).text for p in (0, 1e-9, 0.0004999, 0.0005, 0.0123, 0.5, 1, None)] == [
        "<0.001", "<0.001", "<0.001", "0.001", "0.012", "0.500", "1.000", "–",
    ]  # fmt: skip
    assert probability(0.0499).text == "0.0499"
    assert probability(0.04996).text == "0.04996"
    assert probability(0.0503).text == "0.0503"
    assert probability(0.05).text == "0.050"


def test_a_class_without_images_stands_last_and_without_numbers() -> None:
    comparison = found(AROUND, AROUND)
    empty = ClassDelta(4, "c4", 0, None, None, None, None, None, None)
    view = comparison_view(
        report(replace(comparison, per_class=(empty, *comparison.per_class[1:])))
    )
    assert view.classes[-1].name == "c4"
    assert re.fullmatch("–", str(view.classes[-1].interval))
