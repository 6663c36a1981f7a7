"""What a report says, before any format: built once from scorecards, rendered by every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.metrics import Check, ErrorPattern, Scorecard, Scores, TargetedSuccess
from ferd_eval.metrics.scorecard import ClassScore
from ferd_eval.report.format import FormattedValue, Table, percent, span, whole
from ferd_eval.report.run.provenance import constants_table, cost_table, provenance_table
from ferd_eval.report.run.sanity_tables import audit_table, gap_table, in_order, trust_table
from ferd_eval.report.run.tables import (
    class_table,
    confusion_table,
    error_figures,
    error_table,
    group_table,
    inference_table,
    overall,
    profile_table,
    side_by_side_table,
    summary,
    targeted_table,
)
from ferd_eval.report.run.targets import TargetsView, targets_view
from ferd_eval.report.run.text import headline_attack, sentences, strongest_shared


@dataclass(frozen=True, eq=False)
class Run:
    """One scored checkpoint under the name that reports give it."""

    name: str
    scorecard: Scorecard
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class ClassLine:
    """One class (or group) under one attack.

    Attributes:
        low, high: Wilson 95 % ends, of this class on its own.
        least, most: 95 % ends that hold for all classes at once.
        possibly_worst: whether it cannot be excluded as the lowest; None where that is not known.
    """

    index: int
    name: str
    n: FormattedValue
    accuracy: FormattedValue
    low: FormattedValue
    high: FormattedValue
    least: FormattedValue
    most: FormattedValue
    possibly_worst: bool | None
    drop: FormattedValue
    clean: FormattedValue


@dataclass(frozen=True)
class Heatmap:
    """A K × K picture: counts, what they are out of, and the highest rate off the diagonal.

    Attributes:
        cells: (source, target, count) where the count is not 0.
        out_of: K totals of the rows, or K × K totals of the cells.
    """

    cells: tuple[tuple[int, int, int], ...]
    out_of: tuple[int, ...] | tuple[tuple[int, ...], ...]
    peak: FormattedValue


@dataclass(frozen=True, eq=False)
class AttackView:
    """One attack over the classes (or groups) of one run.

    Attributes:
        overall: the figures over all classes and the ends of their intervals, each by itself.
        intervals: the same intervals as they stand in tables.
        possibly_worst: names of the classes that cannot be excluded as the lowest, the lowest
            first; None where that is not known.
        lowest: names of the classes that are lowest in this sample.
    """

    id: str
    overall: Mapping[str, FormattedValue]
    intervals: Mapping[str, FormattedValue]
    possibly_worst: tuple[str, ...] | None
    lowest: tuple[str, ...]
    classes: tuple[ClassLine, ...]

    @property
    def lowest_first(self) -> tuple[ClassLine, ...]:
        """Classes by accuracy, those without images last."""
        return tuple(sorted(self.classes, key=_accuracy_then_index))


@dataclass(frozen=True, eq=False)
class ProfileView:
    """One attack over ε; ``per_class`` holds K accuracies for each ε."""

    attack: str
    eps: tuple[float, ...]
    eps_text: tuple[str, ...]
    average: tuple[FormattedValue, ...]
    worst_class: tuple[FormattedValue, ...]
    per_class: tuple[tuple[FormattedValue, ...], ...]


@dataclass(frozen=True, eq=False)
class RunView:
    """One run, ready to print.

    Attributes:
        sentences: what a reader who reads nothing else should know.
        headline: id of the strongest attack within the threat model, of several runs the
            strongest that all met; None where none was run.
        confusions, successes: attack → heat map of predictions, and of targeted success.
        errors: attack → where the errors of each class go.
        targets: whether some classes are easier to be attacked into.
        checks: what was asked about the attacks, warnings first; `trust_table` holds the same.
    """

    name: str
    sentences: tuple[str, ...]
    headline: str | None
    class_names: tuple[str, ...]
    attacks: Mapping[str, AttackView]
    groups: Mapping[str, Mapping[str, AttackView]]
    profiles: tuple[ProfileView, ...]
    confusions: Mapping[str, Heatmap]
    successes: Mapping[str, Heatmap]
    errors: Mapping[str, tuple[tuple[str, Mapping[str, FormattedValue]], ...]]
    checks: tuple[Check, ...]
    inference_table: Table
    class_table: Table
    trust_table: Table
    audit_tables: tuple[Table, ...]
    gap_tables: tuple[Table, ...]
    group_tables: tuple[Table, ...]
    profile_tables: tuple[Table, ...]
    confusion_table: Table | None
    error_table: Table | None
    targeted_table: Table | None
    targets: TargetsView | None
    constants_table: Table
    cost_table: Table | None
    provenance_table: Table
    warnings: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables but the constants, in reading order."""
        tables = (
            self.inference_table,
            self.class_table,
            self.trust_table,
            *self.audit_tables,
            *self.gap_tables,
            *self.group_tables,
            *self.profile_tables,
            self.confusion_table,
            self.error_table,
            self.targeted_table,
            *((self.targets.answers, *self.targets.tables) if self.targets else ()),
            self.cost_table,
            self.provenance_table,
        )
        return tuple(table for table in tables if table is not None)

    @property
    def shown(self) -> AttackView:
        """The attack that charts open with: the headline, else the first one run."""
        return self.attacks[self.headline or next(iter(self.attacks))]


@dataclass(frozen=True)
class SideBySide:
    """Each class under one attack that all runs met.

    Attributes:
        lines: for each class, the lowest of the first run first, its line of each run.
    """

    table: Table
    lines: tuple[tuple[ClassLine, ...], ...]


@dataclass(frozen=True, eq=False)
class View:
    """A report over one or several runs."""

    title: str
    runs: tuple[RunView, ...]
    summary: Table
    side_by_side: SideBySide | None


def view(runs: Sequence[Run]) -> View:
    """Build the report of one run, or the comparison of several."""
    assert runs, "a report needs at least one run"
    shared = (
        strongest_shared([run.scorecard for run in runs], [run.manifest for run in runs])
        if len(runs) > 1
        else None
    )
    views = tuple(_run_view(run, shared) for run in runs)
    if len(runs) == 1:
        dataset = runs[0].scorecard.dataset.get("name")
        title = f"Class-wise robustness of {runs[0].name}" + (f" on {dataset}" if dataset else "")
    else:
        title = f"Class-wise robustness of {len(runs)} runs"
    return View(title, views, summary(views), _side_by_side(views, shared))


def _side_by_side(runs: Sequence[RunView], shared: str | None) -> SideBySide | None:
    """Each class under the strongest attack that all runs met, else under the last."""
    if len(runs) < 2 or len({run.class_names for run in runs}) > 1:
        return None
    met = [attack for attack in runs[0].attacks if all(attack in run.attacks for run in runs)]
    if not met:
        return None
    attack = shared or met[-1]
    lines = tuple(
        tuple(run.attacks[attack].classes[first.index] for run in runs)
        for first in runs[0].attacks[attack].lowest_first
    )
    return SideBySide(side_by_side_table(attack, [run.name for run in runs], lines), lines)


def _run_view(run: Run, shared: str | None) -> RunView:
    """One run; `shared` is the strongest attack that it and the others met."""
    card, manifest = run.scorecard, run.manifest
    names = tuple(card.dataset["class_names"])
    attacks = {attack: _attack_view(attack, scores) for attack, scores in card.attacks.items()}
    assert attacks, "a run holds at least one attack"
    headline = shared or headline_attack(card, manifest)
    shown = headline or next(iter(attacks))
    return RunView(
        name=run.name,
        sentences=sentences(card, manifest, headline, shared=shared is not None),
        headline=headline,
        class_names=names,
        attacks=attacks,
        groups={
            grouping: {attack: _attack_view(attack, scores) for attack, scores in of.items()}
            for grouping, of in card.groups.items()
        },
        profiles=tuple(
            ProfileView(
                attack=attack,
                eps=profile.eps,
                eps_text=profile.eps_text,
                average=tuple(map(percent, profile.average)),
                worst_class=tuple(map(percent, profile.worst_class)),
                per_class=tuple(tuple(map(percent, at)) for at in profile.per_class),
            )
            for attack, profile in card.profile.items()
        ),
        confusions={
            attack: _confusion_map(scores.confusion) for attack, scores in card.attacks.items()
        },
        successes={
            attack: _success_map(scores.target)
            for attack, scores in card.attacks.items()
            if isinstance(scores.target, TargetedSuccess)
        },
        errors={
            attack: error_figures(scores.target)
            for attack, scores in card.attacks.items()
            if isinstance(scores.target, ErrorPattern)
        },
        checks=in_order(card.trust.checks),
        inference_table=inference_table(attacks[shown]),
        class_table=class_table(attacks, shown),
        trust_table=trust_table(card.trust.checks),
        audit_tables=tuple(
            audit_table(attack, scores.audit, names)
            for attack, scores in card.attacks.items()
            if scores.audit is not None and scores.audit.leaves_open
        ),
        gap_tables=tuple(map(gap_table, card.trust.gaps)),
        group_tables=tuple(
            group_table(grouping, of, card.attacks) for grouping, of in card.groups.items()
        ),
        profile_tables=tuple(
            profile_table(attack, profile) for attack, profile in card.profile.items()
        ),
        confusion_table=confusion_table(card.attacks),
        error_table=error_table(card.attacks[shown], shown),
        targeted_table=targeted_table(card.attacks),
        targets=targets_view(card.attacks),
        constants_table=constants_table(
            {attack: scores.constants for attack, scores in card.attacks.items()}
        ),
        cost_table=cost_table(manifest),
        provenance_table=provenance_table(card, manifest),
        warnings=_warnings(card, manifest),
    )


def _attack_view(attack: str, scores: Scores) -> AttackView:
    worst, suspects = scores.worst_class, scores.possibly_worst
    names = [each.name for each in scores.per_class]
    return AttackView(
        id=attack,
        overall={key: value for key, _, value in overall(scores)},
        intervals={key: span(ends) for key, ends in scores.intervals.items()},
        possibly_worst=None if suspects is None else tuple(names[i] for i in suspects),
        lowest=tuple(names[i] for i in (worst.index, *worst.tied)) if worst else (),
        classes=tuple(_class_line(each, suspects) for each in scores.per_class),
    )


def _class_line(each: ClassScore, suspects: tuple[int, ...] | None) -> ClassLine:
    low, high = each.wilson95 or (None, None)
    least, most = each.simultaneous95 or (None, None)
    known = each.accuracy is not None and each.drop is not None
    return ClassLine(
        index=each.index,
        name=each.name,
        n=whole(each.n),
        accuracy=percent(each.accuracy),
        low=percent(low),
        high=percent(high),
        least=percent(least),
        most=percent(most),
        possibly_worst=each.index in suspects if suspects is not None and each.n else None,
        drop=percent(each.drop),
        clean=percent((each.accuracy or 0) + (each.drop or 0) if known else None),
    )


def _accuracy_then_index(line: ClassLine) -> tuple[bool, float, int]:
    value = line.accuracy.value
    return value is None, value or 0.0, line.index


def _confusion_map(counts_KK: NDArray[np.int64]) -> Heatmap:
    n_K = counts_KK.sum(axis=1)
    off_KK = counts_KK * ~np.eye(len(counts_KK), dtype=bool)
    rate_KK = off_KK / np.maximum(n_K, 1)[:, None]
    return Heatmap(_cells(counts_KK), tuple(n_K.tolist()), percent(float(rate_KK.max(initial=0))))


def _success_map(target: TargetedSuccess) -> Heatmap:
    hits_KK = np.rint(np.nan_to_num(target.success) * target.attempts).astype(np.int64)
    rates = target.success[~np.isnan(target.success)]
    return Heatmap(
        _cells(hits_KK),
        tuple(tuple(row) for row in target.attempts.tolist()),
        percent(float(rates.max(initial=0))),
    )


def _cells(counts_KK: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    sources, targets = np.nonzero(counts_KK)
    found = counts_KK[sources, targets]
    return tuple(zip(sources.tolist(), targets.tolist(), found.tolist(), strict=True))


def _warnings(card: Scorecard, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    found = [*map(str, manifest.get("warnings") or ()), *card.flags]
    first = next(iter(card.attacks.values()))
    empty = [each.name for each in first.per_class if each.n == 0]
    if empty:
        named = ", ".join(empty[:5]) + (" and more" if len(empty) > 5 else "")
        found.append(
            f"{len(empty)} of {len(first.per_class)} classes have no images and are left out of "
            f"every figure: {named}."
        )
    return tuple(found)
