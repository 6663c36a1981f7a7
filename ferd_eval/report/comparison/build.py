"""Builds the view of a comparison, which every format renders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ferd_eval.metrics import ClassDelta, Comparison, Delta
from ferd_eval.metrics.comparison.circumstances import circumstances
from ferd_eval.metrics.figures import AVERAGE, FIGURES, Figure, Unit, compared_figures
from ferd_eval.report.comparison.model import ComparisonReport, ComparisonView, Line, Reference
from ferd_eval.report.comparison.text import (
    headline,
    interval_ends,
    lowest_delta_of,
    sentences,
    split,
    taken_alone,
)
from ferd_eval.report.format import (
    EMPTY,
    NOTHING,
    PRINTERS,
    Cell,
    FormattedValue,
    Table,
    difference,
    percent,
    percent_end,
    probability,
    ratio,
    ratio_difference,
    ratio_end,
    whole,
)
from ferd_eval.report.run.provenance import constants_table
from ferd_eval.results.run_group import RunGroup

#: Half widths of the chart, fractions.
_REACHES = (0.01, 0.02, 0.04, 0.06, 0.1, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def comparison_view(report: ComparisonReport) -> ComparisonView:
    """Build the view of a comparison."""
    found, first, second = report.comparison, report.first.name, report.second.name
    overall, classes = _overall(found), tuple(_class_lines(report))
    by_attack = {attack: _two_lines(each) for attack, each in report.by_attack.items()}
    more = {"nsd_raw": _raw_nsd(found)}
    if parts := found.nsd_split:
        split_in_two = {"by_spread": parts.by_spread, "by_mean": parts.by_mean}
        more["nsd_split"] = {key: ratio_difference(part) for key, part in split_in_two.items()}
    to_reference = {}
    tables = {
        "overall": _overall_table(report, overall, more["nsd_raw"]),
        "classes": _class_table(report, classes),
        "attacks": _attack_table(report, by_attack),
    }
    if reference := report.reference:
        for side, difference_to in ((first, reference.to_first), (second, reference.to_second)):
            to_reference[f"{side} − {reference.group.name}"] = _overall(difference_to)
        tables["reference"] = _reference_table(report, reference, to_reference)
    tables["constants"] = constants_table({report.attack: report.constants})
    tables["runs"] = Table.of("Runs", (row for group in report.groups for row in _run_rows(group)))
    return ComparisonView(
        title=f"{second} against {first}",
        first=first,
        second=second,
        attack=report.attack,
        direction=f"{second} − {first}",
        verdict=str(found.verdict),
        headline=headline(report),
        taken_alone=taken_alone(found),
        sentences=sentences(report),
        split_sentence=split(found),
        warnings=report.warnings,
        overall=overall,
        more=more,
        classes=classes,
        reach=_reach(classes),
        by_attack=by_attack,
        to_reference=to_reference,
        tables=tables,
    )


def _overall(found: Comparison) -> tuple[Line, ...]:
    return tuple(
        _line(figure, getattr(found, key), found.margin)
        for key, figure in compared_figures().items()
    )


def _two_lines(found: Comparison) -> tuple[Line, Line]:
    """Of the average and of the lowest class, or tenth."""
    return (
        _line(AVERAGE, found.average, found.margin),
        _line(FIGURES[found.lowest], lowest_delta_of(found), found.margin),
    )


def _line(figure: Figure, delta: Delta, margin: float) -> Line:
    as_ratio, plain = figure.unit is Unit.RATIO, PRINTERS[figure.unit]
    low, high = interval_ends(delta.interval95, margin, as_ratio=as_ratio)
    figures = {
        "first": plain(delta.first),
        "second": plain(delta.second),
        "difference": (ratio_difference if as_ratio else difference)(delta.value),
        "low95": low,
        "high95": high,
        "detectable": (ratio_end if as_ratio else percent_end)(delta.detectable),
    }
    return Line(figure.compared, figures, key=figure.key)


def _raw_nsd(found: Comparison) -> dict[str, FormattedValue]:
    first, second = found.nsd_raw
    value = None if first is None or second is None else second - first
    return {"first": ratio(first), "second": ratio(second), "difference": ratio_difference(value)}


def _class_lines(report: ComparisonReport) -> Iterator[Line]:
    found, reference = report.comparison, report.reference
    for each in sorted(found.per_class, key=_by_difference):
        ends = each.interval95
        low, high = interval_ends(ends and (max(ends[0], -1.0), min(ends[1], 1.0)))
        figures = {
            "n": whole(each.n),
            "first": percent(each.first),
            "second": percent(each.second),
            "difference": difference(each.value),
            "low95": low,
            "high95": high,
            "p": probability(each.p),
            "p_holm": probability(each.p_holm),
        }
        if reference:
            figures["reference"] = percent(reference.to_first.per_class[each.index].first)
        finding = "higher" if each.index in found.better else ""
        finding = "lower" if each.index in found.worse else finding
        yield Line(each.name, figures, index=each.index, finding=finding)


def _by_difference(each: ClassDelta) -> tuple[bool, float, int]:
    return each.value is None, each.value or 0.0, each.index


def _reach(classes: Sequence[Line]) -> float:
    """Half the width of the chart, at a round number of points."""
    figures = (each for line in classes for each in line.cells("low95", "high95", "difference"))
    widest = max((abs(each.value) for each in figures if each.value is not None), default=0.0)
    return next((reach for reach in _REACHES if widest <= reach), 1.0)


def _overall_table(
    report: ComparisonReport, lines: Sequence[Line], raw: Mapping[str, FormattedValue]
) -> Table:
    first, second = report.first.name, report.second.name
    metrics = ("first", "second", "difference", "interval", "detectable")
    seeds = "" if report.comparison.seeds == (1, 1) else " Figures are means over seeds."
    rows: list[tuple[Cell, ...]] = [(line.name, *line.cells(*metrics)) for line in lines]
    return Table(
        f"Overall under {report.attack}",
        ("Figure", first, second, "Difference", "95 % interval", "Detectable"),
        (*rows, ("NSD (raw)", *raw.values(), EMPTY, EMPTY)),
        f"Accuracy and SD in per cent, differences in points, {second} − {first}. Worst 10 %: mean "
        "of the lowest tenth of the classes. Debiased: without what sampling adds. Detectable: the "
        "smallest true difference that such an interval would tell from 0 four times in "
        f"five.{seeds}",
    )


def _attack_table(report: ComparisonReport, lines: Mapping[str, tuple[Line, Line]]) -> Table:
    lowest = FIGURES[report.comparison.lowest].compared
    return Table(
        "Does it depend on the attack?",
        ("Attack", "Average", "95 % interval", lowest, "95 % interval"),
        tuple(
            (attack, *(cell for line in both for cell in line.cells("difference", "interval")))
            for attack, both in lines.items()
        ),
        f"Differences in points, {report.second.name} − {report.first.name}, with 95 % intervals, "
        f"under every attack that both met. The verdict is about {report.attack}.",
    )


def _class_table(report: ComparisonReport, lines: Sequence[Line]) -> Table:
    first, second, *others = (group.name for group in report.groups)
    test = "exact McNemar test" if report.comparison.seeds == (1, 1) else "t test over seeds"
    metrics = ("first", "second", "difference", "interval", "p", "p_holm")
    return Table(
        f"Classes under {report.attack}",
        (
            "Class", "Images", *others, first, second, "Difference", "95 % interval", "p", "Holm p",
            "Beyond chance",
        ),
        tuple(
            (
                line.name,
                *line.cells("n", *(["reference"] if others else []), *metrics),
                line.finding or NOTHING,
            )
            for line in lines
        ),
        f"Accuracy in per cent, differences in points, {second} − {first}, lowest first. Interval "
        f"and p ({test}) are of a class on its own; Holm p allows for all classes, and a class "
        "counts as higher or lower beyond chance where it is at most 0.05. "
        f"{taken_alone(report.comparison)}".rstrip(),
    )  # fmt: skip


def _reference_table(
    report: ComparisonReport, reference: Reference, directions: Mapping[str, tuple[Line, ...]]
) -> Table:
    name = reference.group.name
    sides = report.first.name, report.second.name
    return Table(
        f"Against {name}",
        ("Figure", "Side", "Its own", name, "Difference", "95 % interval"),
        tuple(
            (line.name, side, *line.cells("second", "first", "difference", "interval"))
            for lines in zip(*directions.values(), strict=True)
            for side, line in zip(sides, lines, strict=True)
        ),
        f"How each side stands to {name} under {report.attack}: differences in points (NSD as it "
        f"is), side − {name}. {reference.note} It has no part in the verdict.".replace("  ", " "),
    )


def _run_rows(group: RunGroup) -> Iterator[dict[str, Cell]]:
    seeds = group.recorded_seeds or [NOTHING] * len(group.runs)
    for folder, run, seed in zip(group.folders, group.runs, seeds, strict=True):
        checkpoint, data = run.manifest.get("checkpoint") or {}, run.manifest["dataset"]
        with_ = circumstances(run.manifest)
        versions = [f"{key} {with_[key]}" for key in with_ if key in ("torch", "CUDA", "ferd_eval")]
        yield {
            "Side": group.name,
            "Folder": str(folder),
            "Checkpoint SHA-256": str(checkpoint.get("sha256") or NOTHING),
            "Training seed": str(seed),
            "Attack seed": str(run.manifest.get("seed", NOTHING)),
            "Data set": f"{data.get('name') or 'unknown'} ({data.get('selection') or 'imported'})",
            "Scored with": ", ".join(versions) or NOTHING,
        }
