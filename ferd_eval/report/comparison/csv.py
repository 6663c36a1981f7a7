"""``compare.csv``: one row for each figure, in full precision and as printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ferd_eval.report.comparison.model import ComparisonView
from ferd_eval.report.format import FormattedValue
from ferd_eval.report.render import CsvCell, csv_text

COLUMNS = ("difference", "attack", "scope", "index", "name", "metric", "value", "printed")


def comparison_csv(view: ComparisonView) -> str:
    """Render it; names are kept from being formulas."""
    return csv_text(COLUMNS, _rows(view))


def _rows(view: ComparisonView) -> Iterator[tuple[CsvCell, ...]]:
    direction, attack = view.direction, view.attack
    yield direction, attack, "overall", "", "", "verdict", view.verdict, view.verdict
    for key, figures in _overall(view):
        yield from _figures(figures, direction, attack, "overall", "", key)
    for each in sorted(view.classes, key=lambda line: line.index):
        figures = {"n": each.n, **each.figures}
        yield from _figures(figures, direction, attack, "class", each.index, each.name)
    for other, lines in view.by_attack.items():
        if other != attack:
            for line in lines:
                yield from _figures(line.figures, direction, other, "overall", "", line.key)
    for direction, of in view.to_reference.items():
        for line in of:
            yield from _figures(line.figures, direction, attack, "overall", "", line.key)


def _overall(view: ComparisonView) -> Iterator[tuple[str, Mapping[str, FormattedValue]]]:
    for line in view.overall:
        yield line.key, line.figures
    yield "nsd_raw", dict(zip(("first", "second", "difference"), view.raw_nsd, strict=True))
    if view.split is not None:
        yield "nsd_split", dict(zip(("by_spread", "by_mean"), view.split, strict=True))


def _figures(
    figures: Mapping[str, FormattedValue], *start: CsvCell
) -> Iterator[tuple[CsvCell, ...]]:
    for metric, figure in figures.items():
        yield *start, metric, figure.value, figure
