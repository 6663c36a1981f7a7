"""``compare.csv``: one row for each figure, in full precision and as printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ferd_eval.report.comparison.build import ClassLine, ComparisonView, DeltaLine
from ferd_eval.report.format import FormattedValue
from ferd_eval.report.run.csv import as_csv, guard, value_and_print

COLUMNS = ("difference", "attack", "scope", "index", "name", "metric", "value", "printed")


def comparison_csv(view: ComparisonView) -> str:
    """Render it; names are kept from being formulas."""
    return as_csv(COLUMNS, _rows(view))


def _rows(view: ComparisonView) -> Iterator[list[str]]:
    start = [guard(view.direction), guard(view.attack)]
    yield [*start, "overall", "", "", "verdict", guard(view.verdict), guard(view.verdict)]
    for line in view.overall:
        yield from _figures([*start, "overall", "", line.key], _of_delta(line))
    raw = zip(("first", "second", "difference"), view.raw_nsd, strict=True)
    yield from _figures([*start, "overall", "", "nsd_raw"], raw)
    if view.split is not None:
        parts = zip(("by_spread", "by_mean"), view.split, strict=True)
        yield from _figures([*start, "overall", "", "nsd_split"], parts)
    for each in sorted(view.classes, key=lambda line: line.index):
        yield from _figures([*start, "class", str(each.index), guard(each.name)], _of_class(each))
    for attack, lines in view.by_attack.items():
        if attack != view.attack:
            for line in lines:
                yield from _figures(
                    [start[0], guard(attack), "overall", "", line.key], _of_delta(line)
                )
    for direction, of in view.to_reference.items():
        for line in of:
            yield from _figures(
                [guard(direction), start[1], "overall", "", line.key], _of_delta(line)
            )


def _figures(
    start: list[str], figures: Iterable[tuple[str, FormattedValue]]
) -> Iterator[list[str]]:
    for metric, figure in figures:
        yield [*start, metric, *value_and_print(figure)]


def _of_delta(line: DeltaLine) -> Iterator[tuple[str, FormattedValue]]:
    yield from (("first", line.first), ("second", line.second), ("difference", line.value))
    yield from (("low95", line.low), ("high95", line.high), ("detectable", line.detectable))


def _of_class(line: ClassLine) -> Iterator[tuple[str, FormattedValue]]:
    yield from (("n", line.n), ("first", line.first), ("second", line.second))
    yield from (("difference", line.value), ("low95", line.low), ("high95", line.high))
    yield from (("p", line.p), ("p_holm", line.p_holm))
    if line.reference is not None:
        yield ("reference", line.reference)
