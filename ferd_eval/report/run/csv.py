"""``report.csv`` (long, full precision) and ``report_wide.csv`` (one row for each class)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ferd_eval.report.format import FormattedValue, whole
from ferd_eval.report.render import CsvCell, csv_text
from ferd_eval.report.run.model import AttackView, ClassFigures, RunView, View

LONG_COLUMNS = (
    "run", "attack", "scope", "grouping", "index", "name", "metric", "value", "printed",
)  # fmt: skip


class _Figure(NamedTuple):
    """One figure of a run: its place and its printed value."""

    attack: str
    scope: str
    grouping: str
    place: int | str
    name: str
    metric: str
    printed: FormattedValue


def long_csv(view: View) -> str:
    """One row for each figure: ``value`` as in ``scorecard.json``, ``printed`` as in the report."""
    return csv_text(
        LONG_COLUMNS,
        (
            (run.name, *each[:-1], each.printed.value, each.printed)
            for run in view.runs
            for each in _run_figures(run)
        ),
    )


def wide_csv(view: View) -> str:
    """One row for each class of each run, accuracies and 95 % interval ends in per cent."""
    attacks = tuple(dict.fromkeys(attack for run in view.runs for attack in run.attacks))
    headings = [f"{attack}{end}" for attack in attacks for end in ("", " low", " high")]
    return csv_text(
        ("run", "index", "class", "images", *headings),
        (row for run in view.runs for row in _wide_rows(run, attacks)),
    )


def _wide_rows(run: RunView, attacks: tuple[str, ...]) -> Iterator[list[CsvCell]]:
    for i, name in enumerate(run.class_names):
        row: list[CsvCell] = [run.name, i, name, run.shown.classes[i].n]
        for attack in attacks:
            if attack in run.attacks:
                line = run.attacks[attack].classes[i]
                row += [line.accuracy, line.low, line.high]
            else:
                row += [None, None, None]
        yield row


def _run_figures(run: RunView) -> Iterator[_Figure]:
    for attack, shown in run.attacks.items():
        yield from _attack_rows(shown, "class", "")
        yield from _class_rows(attack, run.errors.get(attack, ()))
        if run.targets:
            for metric, figure in run.targets.overall.get(attack, {}).items():
                yield _Figure(attack, "overall", "", "", "", metric, figure)
            yield from _class_rows(attack, run.targets.by_class.get(attack, ()))
    for grouping, of in run.groups.items():
        for shown in of.values():
            yield from _attack_rows(shown, "group", grouping)


def _class_rows(attack: str, classes: ClassFigures) -> Iterator[_Figure]:
    for i, (name, figures) in enumerate(classes):
        for metric, figure in figures.items():
            yield _Figure(attack, "class", "", i, name, metric, figure)


def _attack_rows(shown: AttackView, scope: str, grouping: str) -> Iterator[_Figure]:
    """Figures over all classes (with a grouping: over its groups), then of each."""
    for metric, figure in shown.overall.items():
        yield _Figure(shown.id, "overall", grouping, "", "", metric, figure)
    for line in shown.classes:
        suspect = None if line.possibly_worst is None else int(line.possibly_worst)
        figures = {
            "n": line.n,
            "accuracy": line.accuracy,
            "wilson95_low": line.low,
            "wilson95_high": line.high,
            "simultaneous95_low": line.least,
            "simultaneous95_high": line.most,
            "possibly_worst": whole(suspect),
            "drop": line.drop,
        }
        for metric, figure in figures.items():
            yield _Figure(shown.id, scope, grouping, line.index, line.name, metric, figure)
