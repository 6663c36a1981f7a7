"""``report.csv`` (long, full precision) and ``report_wide.csv`` (one row for each class)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from ferd_eval.report.format import Cell, FormattedValue, whole
from ferd_eval.report.run.build import AttackView, ClassLine, View
from ferd_eval.report.run.targets import TargetsView

LONG_COLUMNS = (
    "run", "attack", "scope", "grouping", "index", "name", "metric", "value", "printed",
)  # fmt: skip

#: What begins a formula, or may be skipped before one; programs for East Asia take wide forms, too.
_FORMULA = (*"=+-@\t\n", *"\uff1d\uff0b\uff0d\uff20")


def long_csv(view: View) -> str:
    """One row for each figure: ``value`` as in ``scorecard.json``, ``printed`` as in the report."""
    return as_csv(LONG_COLUMNS, _long_rows(view))


def wide_csv(view: View) -> str:
    """One row for each class of each run, accuracies and 95 % interval ends in per cent."""
    attacks = tuple(dict.fromkeys(attack for run in view.runs for attack in run.attacks))
    heading = ["run", "index", "class", "images"]
    for attack in attacks:
        heading += [attack, f"{attack} low", f"{attack} high"]
    rows: list[list[Cell]] = []
    for run in view.runs:
        for i, name in enumerate(run.class_names):
            row: list[Cell] = [run.name, FormattedValue(i, str(i)), name, run.shown.classes[i].n]
            for attack in attacks:
                if attack in run.attacks:
                    line = run.attacks[attack].classes[i]
                    row += [line.accuracy, line.low, line.high]
                else:
                    row += ["", "", ""]
            rows.append(row)
    return as_csv(
        heading,
        ([_printed(c) if isinstance(c, FormattedValue) else guard(c) for c in row] for row in rows),
    )


def guard(text: str) -> str:
    """Keep a spreadsheet from taking a name, or a line of it, for a formula."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # a lone \r is written without quotes
    return f"'{text}" if text.startswith(_FORMULA) else text


def _long_rows(view: View) -> Iterator[list[str]]:
    for run in view.runs:
        for attack, shown in run.attacks.items():
            yield from _attack_rows([guard(run.name), guard(attack)], shown, "class", "")
            for i, (name, figures) in enumerate(run.errors.get(attack, ())):
                start = [guard(run.name), guard(attack), "class", "", str(i), guard(name)]
                for metric, figure in figures.items():
                    yield [*start, metric, *value_and_print(figure)]
            yield from _target_rows([guard(run.name), guard(attack)], run.targets, attack)
        for grouping, of in run.groups.items():
            for attack, shown in of.items():
                yield from _attack_rows(
                    [guard(run.name), guard(attack)], shown, "group", guard(grouping)
                )


def _target_rows(start: list[str], targets: TargetsView | None, attack: str) -> Iterator[list[str]]:
    """Whether some classes are easier to be attacked into, over all classes and by class."""
    if targets is None:
        return
    for metric, figure in targets.overall.get(attack, {}).items():
        yield [*start, "overall", "", "", "", metric, *value_and_print(figure)]
    for i, (name, figures) in enumerate(targets.by_class.get(attack, ())):
        for metric, figure in figures.items():
            yield [*start, "class", "", str(i), guard(name), metric, *value_and_print(figure)]


def _attack_rows(
    start: list[str], shown: AttackView, scope: str, grouping: str
) -> Iterator[list[str]]:
    """Figures over all classes (with a grouping: over its groups), then of each."""
    for metric, figure in shown.overall.items():
        yield [*start, "overall", grouping, "", "", metric, *value_and_print(figure)]
    for line in shown.classes:
        for metric, figure in _class_figures(line):
            yield [
                *start, scope, grouping, str(line.index), guard(line.name), metric,
                *value_and_print(figure),
            ]  # fmt: skip


def _class_figures(line: ClassLine) -> Iterable[tuple[str, FormattedValue]]:
    return (
        ("n", line.n),
        ("accuracy", line.accuracy),
        ("wilson95_low", line.low),
        ("wilson95_high", line.high),
        ("simultaneous95_low", line.least),
        ("simultaneous95_high", line.most),
        (
            "possibly_worst",
            whole(None if line.possibly_worst is None else int(line.possibly_worst)),
        ),
        ("drop", line.drop),
    )


def value_and_print(figure: FormattedValue) -> list[str]:
    """In full precision, and as the report prints it."""
    return ["" if figure.value is None else repr(figure.value), _printed(figure)]


def _printed(figure: FormattedValue) -> str:
    """As in the report, but with an ASCII minus and nothing for no value, as spreadsheets read."""
    return "" if figure.value is None else figure.text.replace("\N{MINUS SIGN}", "-")


def as_csv(heading: Iterable[str], rows: Iterable[list[str]]) -> str:
    """Cells that are already guarded, under their headings."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([guard(name) for name in heading])
    writer.writerows(rows)
    return stream.getvalue()
