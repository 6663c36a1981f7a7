"""What a comparison's report says, before any format: built once, rendered by every format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ferd_eval.metrics import ClassDelta, Comparison, Delta
from ferd_eval.metrics.comparison.circumstances import circumstances
from ferd_eval.metrics.figures import AVERAGE, FIGURES, Figure, Unit, compared_figures
from ferd_eval.report.comparison.model import Contest, Contestant
from ferd_eval.report.comparison.text import (
    basis,
    detectable,
    headline,
    interval_ends,
    lowest_delta_of,
    split,
    taken_alone,
)
from ferd_eval.report.format import (
    NOTHING,
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

_FINDING = {1: "higher", -1: "lower", 0: ""}


@dataclass(frozen=True)
class DeltaLine:
    """A figure of both sides and its difference, second − first."""

    key: str
    name: str
    first: FormattedValue
    second: FormattedValue
    value: FormattedValue
    low: FormattedValue
    high: FormattedValue
    detectable: FormattedValue

    @property
    def interval(self) -> FormattedValue:
        """Both ends; it sorts by the lower."""
        return _interval(self.low, self.high)


@dataclass(frozen=True)
class ClassLine:
    """One class of both sides.

    Attributes:
        finding: "higher" or "lower" beyond chance after Holm's correction, else empty.
        reference: accuracy of the reference; None where there is none.
    """

    index: int
    name: str
    n: FormattedValue
    first: FormattedValue
    second: FormattedValue
    value: FormattedValue
    low: FormattedValue
    high: FormattedValue
    p: FormattedValue
    p_holm: FormattedValue
    finding: str
    reference: FormattedValue | None

    @property
    def interval(self) -> FormattedValue:
        """Both ends; it sorts by the lower."""
        return _interval(self.low, self.high)


@dataclass(frozen=True, eq=False)
class ComparisonView:
    """A comparison, ready to print.

    Attributes:
        direction: what a difference is, ``B − A``.
        headline: the verdict with its reason.
        sentences: how sure it is.
        taken_alone: why classes whose own interval leaves out 0 are not beyond chance.
        classes: by their difference, those without images last.
        reach: half the width of a chart that holds every interval, a fraction.
        by_attack: attack → average and lowest class, or tenth.
        to_reference: direction → overall lines.
    """

    title: str
    first: str
    second: str
    reference: str | None
    attack: str
    direction: str
    verdict: str
    headline: str
    sentences: tuple[str, ...]
    taken_alone: str
    split_sentence: str
    warnings: tuple[str, ...]
    overall: tuple[DeltaLine, ...]
    raw_nsd: tuple[FormattedValue, FormattedValue, FormattedValue]
    split: tuple[FormattedValue, FormattedValue] | None
    classes: tuple[ClassLine, ...]
    reach: float
    by_attack: Mapping[str, tuple[DeltaLine, DeltaLine]]
    to_reference: Mapping[str, tuple[DeltaLine, ...]]
    overall_table: Table
    attack_table: Table
    class_table: Table
    reference_table: Table | None
    runs_table: Table
    constants_table: Table

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables in reading order."""
        tables = (
            self.overall_table,
            self.class_table,
            self.attack_table,
            self.reference_table,
            self.constants_table,
            self.runs_table,
        )
        return tuple(table for table in tables if table is not None)


def comparison_view(contest: Contest) -> ComparisonView:
    """Build the report of a comparison."""
    found, first, second = contest.comparison, contest.first.name, contest.second.name
    reference = contest.reference
    direction = f"{second} − {first}"
    overall = _overall(found)
    raw = _raw_nsd(found)
    classes = tuple(_class_lines(contest))
    by_attack = {attack: _two_lines(each) for attack, each in contest.by_attack.items()}
    to_reference = (
        {}
        if reference is None
        else {
            f"{side.name} − {reference.contestant.name}": _overall(each)
            for side, each in (
                (contest.first, reference.to_first),
                (contest.second, reference.to_second),
            )
        }
    )
    parts = found.nsd_split
    return ComparisonView(
        title=f"{second} against {first}",
        first=first,
        second=second,
        reference=reference.contestant.name if reference else None,
        attack=contest.attack,
        direction=direction,
        verdict=str(found.verdict),
        headline=headline(contest),
        taken_alone=taken_alone(found),
        sentences=tuple(each for each in (detectable(contest), basis(contest)) if each),
        split_sentence=split(contest),
        warnings=contest.warnings,
        overall=overall,
        raw_nsd=raw,
        split=(
            (ratio_difference(parts.by_spread), ratio_difference(parts.by_mean)) if parts else None
        ),
        classes=classes,
        reach=_reach(classes),
        by_attack=by_attack,
        to_reference=to_reference,
        overall_table=_overall_table(contest, overall, raw),
        attack_table=_attack_table(contest, by_attack),
        class_table=_class_table(contest, classes),
        reference_table=_reference_table(contest, to_reference),
        runs_table=_runs_table(contest),
        constants_table=constants_table({contest.attack: contest.constants}),
    )


def _overall(found: Comparison) -> tuple[DeltaLine, ...]:
    return tuple(
        _line(figure, getattr(found, key), found.margin)
        for key, figure in compared_figures().items()
    )


def _line(figure: Figure, delta: Delta, margin: float) -> DeltaLine:
    as_ratio = figure.unit is Unit.RATIO
    plain, signed = (ratio, ratio_difference) if as_ratio else (percent, difference)
    low, high = interval_ends(delta.interval95, margin, as_ratio=as_ratio)
    return DeltaLine(
        key=figure.key,
        name=figure.compared,
        first=plain(delta.first),
        second=plain(delta.second),
        value=signed(delta.value),
        low=low,
        high=high,
        detectable=(ratio_end if as_ratio else percent_end)(delta.detectable),
    )


def _raw_nsd(found: Comparison) -> tuple[FormattedValue, FormattedValue, FormattedValue]:
    first, second = found.nsd_raw
    value = None if first is None or second is None else second - first
    return ratio(first), ratio(second), ratio_difference(value)


def _two_lines(found: Comparison) -> tuple[DeltaLine, DeltaLine]:
    """Of the average and of what stands for the lowest class."""
    return (
        _line(AVERAGE, found.average, found.margin),
        _line(FIGURES[found.lowest], lowest_delta_of(found), found.margin),
    )


def _class_lines(contest: Contest) -> Iterator[ClassLine]:
    found, reference = contest.comparison, contest.reference
    better, worse = {*found.better}, {*found.worse}
    for each in sorted(found.per_class, key=_by_difference):
        low, high = interval_ends(each.interval95 and _possible(each.interval95))
        yield ClassLine(
            index=each.index,
            name=each.name,
            n=whole(each.n),
            first=percent(each.first),
            second=percent(each.second),
            value=difference(each.value),
            low=low,
            high=high,
            p=probability(each.p),
            p_holm=probability(each.p_holm),
            finding=_FINDING[(each.index in better) - (each.index in worse)],
            reference=(
                percent(reference.to_first.per_class[each.index].first) if reference else None
            ),
        )


def _possible(ends: tuple[float, float]) -> tuple[float, float]:
    """Within what a difference of accuracies can be."""
    return max(ends[0], -1.0), min(ends[1], 1.0)


def _by_difference(each: ClassDelta) -> tuple[bool, float, int]:
    return each.value is None, each.value or 0.0, each.index


def _reach(classes: Sequence[ClassLine]) -> float:
    """Half the width of the chart, at a round number of points."""
    widest = max(
        (
            abs(figure.value)
            for line in classes
            for figure in (line.low, line.high, line.value)
            if figure.value is not None
        ),
        default=0.0,
    )
    steps = (0.01, 0.02, 0.04, 0.06, 0.1, 0.16, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
    return next((step for step in steps if widest <= step), 1.0)


def _overall_table(
    contest: Contest,
    lines: Sequence[DeltaLine],
    raw: tuple[FormattedValue, FormattedValue, FormattedValue],
) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (line.name, line.first, line.second, line.value, line.interval, line.detectable)
        for line in lines
    ]
    rows.append(("NSD (raw)", *raw, FormattedValue(None, NOTHING), FormattedValue(None, NOTHING)))
    seeds = "" if contest.comparison.seeds == (1, 1) else " Figures are means over seeds."
    return Table(
        f"Overall under {contest.attack}",
        (
            "Figure",
            contest.first.name,
            contest.second.name,
            "Difference",
            "95 % interval",
            "Detectable",
        ),
        tuple(rows),
        f"Accuracy and SD in per cent, differences in points, {contest.second.name} − "
        f"{contest.first.name}. Worst 10 %: mean of the lowest tenth of the classes. Debiased: "
        "without what sampling adds. Detectable: the smallest true difference that such an "
        f"interval would tell from 0 four times in five.{seeds}",
    )


def _attack_table(contest: Contest, lines: Mapping[str, tuple[DeltaLine, DeltaLine]]) -> Table:
    lowest = FIGURES[contest.comparison.lowest].compared
    return Table(
        "Does it depend on the attack?",
        ("Attack", "Average", "95 % interval", lowest, "95 % interval"),
        tuple(
            (attack, average.value, average.interval, low.value, low.interval)
            for attack, (average, low) in lines.items()
        ),
        f"Differences in points, {contest.second.name} − {contest.first.name}, with 95 % "
        f"intervals, under every attack that both met. The verdict is about {contest.attack}.",
    )


def _class_table(contest: Contest, lines: Sequence[ClassLine]) -> Table:
    reference = contest.reference
    names = (reference.contestant.name,) if reference else ()
    test = "exact McNemar test" if contest.comparison.seeds == (1, 1) else "t test over seeds"
    return Table(
        f"Classes under {contest.attack}",
        (
            "Class",
            "Images",
            *names,
            contest.first.name,
            contest.second.name,
            "Difference",
            "95 % interval",
            "p",
            "Holm p",
            "Beyond chance",
        ),
        tuple(
            (
                line.name,
                line.n,
                *((line.reference,) if line.reference is not None else ()),
                line.first,
                line.second,
                line.value,
                line.interval,
                line.p,
                line.p_holm,
                line.finding or NOTHING,
            )
            for line in lines
        ),
        f"Accuracy in per cent, differences in points, {contest.second.name} − "
        f"{contest.first.name}, lowest first. Interval and p ({test}) are of a class on its own; "
        "Holm p allows for all classes, and a class counts as higher or lower beyond chance where "
        f"it is at most 0.05. {taken_alone(contest.comparison)}".rstrip(),
    )


def _reference_table(
    contest: Contest, directions: Mapping[str, tuple[DeltaLine, ...]]
) -> Table | None:
    if contest.reference is None:
        return None
    name = contest.reference.contestant.name
    sides = (contest.first.name, contest.second.name)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (each.name, side, each.second, each.first, each.value, each.interval)
        for lines in zip(*directions.values(), strict=True)
        for side, each in zip(sides, lines, strict=True)
    )
    return Table(
        f"Against {name}",
        ("Figure", "Side", "Its own", name, "Difference", "95 % interval"),
        rows,
        f"How each side stands to {name} under {contest.attack}: differences in points (NSD as it "
        f"is), side − {name}. {contest.reference.note} It has no part in the verdict.".replace(
            "  ", " "
        ),
    )


def _runs_table(contest: Contest) -> Table:
    sides = [contest.first, contest.second]
    if contest.reference:
        sides.append(contest.reference.contestant)
    return Table(
        "Runs",
        (
            "Side", "Folder", "Checkpoint SHA-256", "Training seed", "Attack seed", "Data set",
            "Scored with",
        ),
        tuple(row for side in sides for row in _run_rows(side)),
    )  # fmt: skip


def _run_rows(side: Contestant) -> Iterator[tuple[Cell, ...]]:
    seeds: Sequence[int | None] = side.seeds or [None] * len(side.folders)
    for folder, manifest, seed in zip(side.folders, side.manifests, seeds, strict=True):
        checkpoint, data = manifest.get("checkpoint") or {}, manifest["dataset"]
        yield (
            side.name,
            folder,
            str(checkpoint.get("sha256") or NOTHING),
            NOTHING if seed is None else str(seed),
            str(manifest.get("seed", NOTHING)),
            f"{data.get('name') or 'unknown'} ({data.get('selection') or 'imported'})",
            ", ".join(
                f"{name} {value}"
                for name, value in circumstances(manifest).items()
                if name in ("torch", "CUDA", "ferd_eval")
            )
            or NOTHING,
        )


def _interval(low: FormattedValue, high: FormattedValue) -> FormattedValue:
    if low.value is None:
        return FormattedValue(None, NOTHING)
    return FormattedValue(low.value, f"{low} to {high}")
