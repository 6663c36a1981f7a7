"""What a report says, before any format: built once from scorecards, rendered by every format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.metrics import (
    AttackScores,
    ErrorPattern,
    Scorecard,
    Scores,
    TargetConfusion,
    TargetedSuccess,
)
from ferd_eval.metrics.scorecard import ClassScore
from ferd_eval.report.figure import (
    NOTHING,
    Cell,
    Figure,
    Table,
    percent,
    ratio,
    whole,
)
from ferd_eval.report.provenance import constants_table, cost_table, provenance_table
from ferd_eval.report.sentences import headline_attack, sentences

#: Overall figures in the order of every format: key in the scorecard → (heading, printer).
OVERALL: Mapping[str, tuple[str, Any]] = {
    "n": ("Images", whole),
    "average": ("Average", percent),
    "worst_class": ("Worst class", percent),
    "worst_10pct": ("Worst 10 %", percent),
    "floor95": ("95 % floor", percent),
    "nsd": ("NSD", ratio),
    "nsd_ddof1": ("NSD (ddof 1)", ratio),
    "sd": ("SD", percent),
    "gap": ("Gap", percent),
    "gini": ("Gini", ratio),
}

#: The figures of the summary table, and whether more of it is better.
SUMMARY: Mapping[str, bool] = {
    "average": True,
    "worst_class": True,
    "worst_10pct": True,
    "floor95": True,
    "nsd": False,
}


@dataclass(frozen=True, eq=False)
class Run:
    """One scored checkpoint under the name that reports give it."""

    name: str
    scorecard: Scorecard
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class ClassLine:
    """One class (or group) under one attack; ``low`` and ``high`` are Wilson 95 % ends."""

    index: int
    name: str
    n: Figure
    accuracy: Figure
    low: Figure
    high: Figure
    drop: Figure
    clean: Figure


@dataclass(frozen=True)
class Heatmap:
    """A K × K picture: counts, what they are out of, and the highest rate off the diagonal.

    Attributes:
        cells: (source, target, count) where the count is not 0.
        out_of: K totals of the rows, or K × K totals of the cells.
    """

    cells: tuple[tuple[int, int, int], ...]
    out_of: tuple[int, ...] | tuple[tuple[int, ...], ...]
    peak: Figure


@dataclass(frozen=True, eq=False)
class AttackView:
    """One attack over the classes (or groups) of one run."""

    id: str
    overall: Mapping[str, Figure]
    worst_name: str
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
    average: tuple[Figure, ...]
    worst_class: tuple[Figure, ...]
    per_class: tuple[tuple[Figure, ...], ...]


@dataclass(frozen=True, eq=False)
class RunView:
    """One run, ready to print.

    Attributes:
        sentences: what a reader who reads nothing else should know.
        headline: id of the strongest attack within the threat model; None where none was run.
        confusions, successes: attack → heat map of predictions, and of targeted success.
        errors: attack → where the errors of each class go.
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
    errors: Mapping[str, tuple[tuple[str, Mapping[str, Figure]], ...]]
    class_table: Table
    group_tables: tuple[Table, ...]
    profile_tables: tuple[Table, ...]
    confusion_table: Table | None
    error_table: Table | None
    targeted_table: Table | None
    constants_table: Table
    cost_table: Table | None
    provenance_table: Table
    warnings: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables but the constants, in reading order."""
        tables = (
            self.class_table,
            *self.group_tables,
            *self.profile_tables,
            self.confusion_table,
            self.error_table,
            self.targeted_table,
            self.cost_table,
            self.provenance_table,
        )
        return tuple(table for table in tables if table is not None)

    @property
    def shown(self) -> AttackView:
        """The attack that charts open with: the headline, else the first one run."""
        return self.attacks[self.headline or next(iter(self.attacks))]


@dataclass(frozen=True, eq=False)
class View:
    """A report over one or several runs."""

    title: str
    runs: tuple[RunView, ...]
    summary: Table
    side_by_side: Table | None


def view(runs: Sequence[Run]) -> View:
    """Build the report of one run, or the comparison of several."""
    assert runs, "a report needs at least one run"
    views = tuple(_run_view(run) for run in runs)
    if len(runs) == 1:
        dataset = runs[0].scorecard.dataset.get("name")
        title = f"Class-wise robustness of {runs[0].name}" + (f" on {dataset}" if dataset else "")
    else:
        title = f"Class-wise robustness of {len(runs)} runs"
    return View(title, views, _summary(views), _side_by_side(views))


def _run_view(run: Run) -> RunView:
    card, manifest = run.scorecard, run.manifest
    names = tuple(card.dataset["class_names"])
    attacks = {attack: _attack_view(attack, scores) for attack, scores in card.attacks.items()}
    assert attacks, "a run holds at least one attack"
    headline = headline_attack(card, manifest)
    shown = headline or next(iter(attacks))
    return RunView(
        name=run.name,
        sentences=sentences(card, manifest, headline),
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
            attack: _errors(scores.target)
            for attack, scores in card.attacks.items()
            if isinstance(scores.target, ErrorPattern)
        },
        class_table=_class_table(attacks, shown),
        group_tables=tuple(
            _group_table(grouping, of, card.attacks) for grouping, of in card.groups.items()
        ),
        profile_tables=tuple(
            Table(
                f"{attack} over ε",
                ("ε", "Average", "Worst class"),
                tuple(
                    (text, percent(average), percent(worst))
                    for text, average, worst in zip(
                        profile.eps_text, profile.average, profile.worst_class, strict=True
                    )
                ),
            )
            for attack, profile in card.profile.items()
        ),
        confusion_table=_confusion_table(card.attacks),
        error_table=_error_table(card.attacks[shown], shown),
        targeted_table=_targeted_table(card.attacks),
        constants_table=constants_table(card.attacks),
        cost_table=cost_table(manifest),
        provenance_table=provenance_table(card, manifest),
        warnings=_warnings(card, manifest),
    )


def _attack_view(attack: str, scores: Scores) -> AttackView:
    worst = scores.worst_class
    values = {key: getattr(scores, key) for key in OVERALL} | {
        "worst_class": worst.accuracy if worst else None
    }
    tied = f" (+{len(worst.tied)} tied)" if worst and worst.tied else ""
    return AttackView(
        id=attack,
        overall={key: printer(values[key]) for key, (_, printer) in OVERALL.items()},
        worst_name=f"{worst.name}{tied}" if worst else NOTHING,
        classes=tuple(_class_line(each) for each in scores.per_class),
    )


def _class_line(each: ClassScore) -> ClassLine:
    low, high = each.wilson95 or (None, None)
    known = each.accuracy is not None and each.drop is not None
    return ClassLine(
        index=each.index,
        name=each.name,
        n=whole(each.n),
        accuracy=percent(each.accuracy),
        low=percent(low),
        high=percent(high),
        drop=percent(each.drop),
        clean=percent((each.accuracy or 0) + (each.drop or 0) if known else None),
    )


def _accuracy_then_index(line: ClassLine) -> tuple[bool, float, int]:
    value = line.accuracy.value
    return value is None, value or 0.0, line.index


def _summary(runs: Sequence[RunView]) -> Table:
    """One row for each attack and run; of several runs the best of each attack stands out."""
    several = len(runs) > 1
    attacks = dict.fromkeys(attack for run in runs for attack in run.attacks)
    rows: list[tuple[Cell, ...]] = []
    best: set[tuple[int, int]] = set()
    for attack in attacks:
        those = [run for run in runs if attack in run.attacks]
        for run in those:
            shown = run.attacks[attack]
            figures = [shown.overall[key] for key in SUMMARY]
            name = (run.name,) if several else ()
            rows.append((attack, *name, shown.worst_name, *figures))
        if len(those) > 1:
            best.update(_best(rows, first=len(rows) - len(those)))
    columns = ("Attack", *(("Run",) if several else ()), "Lowest class")
    note = (
        "Accuracy in per cent. Worst 10 %: mean of the lowest tenth of the classes. 95 % floor: "
        "with 95 % confidence every class is at least this accurate under the attack. NSD: "
        "standard deviation over classes divided by their mean; it falls whenever the mean rises, "
        "so read it beside the worst class."
    )
    if any(run.successes for run in runs):
        note += (
            " Under a targeted attack an image is right only if it is so for every class aimed at."
        )
    if several:
        note += " The best of each attack is in bold."
    return Table(
        "All attacks",
        columns + tuple(OVERALL[key][0] for key in SUMMARY),
        tuple(rows),
        note,
        frozenset(best),
    )


def _best(rows: Sequence[tuple[Cell, ...]], first: int) -> Iterator[tuple[int, int]]:
    """Cells of ``rows[first:]`` that print like the best of their column."""
    start = len(rows[0]) - len(SUMMARY)
    for column, more_is_better in enumerate(SUMMARY.values(), start=start):
        cells = [
            (row, cell.text, cell.value)
            for row in range(first, len(rows))
            if isinstance(cell := rows[row][column], Figure) and cell.value is not None
        ]
        if cells:
            extreme = max if more_is_better else min
            winner = extreme(cells, key=lambda item: item[2])[1]
            yield from ((row, column) for row, text, _ in cells if text == winner)


def _side_by_side(runs: Sequence[RunView]) -> Table | None:
    """Return each class under the strongest attack that all runs share, one column a run."""
    if len(runs) < 2 or len({run.class_names for run in runs}) > 1:
        return None
    shared = [attack for attack in runs[0].attacks if all(attack in run.attacks for run in runs)]
    if not shared:
        return None
    attack = runs[0].headline if runs[0].headline in shared else shared[-1]
    lines = [run.attacks[attack].classes for run in runs]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (first.name, *(line[first.index].accuracy for line in lines))
        for first in runs[0].attacks[attack].lowest_first
    )
    return Table(
        f"Classes side by side under {attack}",
        ("Class", *(run.name for run in runs)),
        rows,
        f"Accuracy in per cent, lowest of {runs[0].name} first. Whether a difference is more than "
        "chance needs a paired test on the same images.",
    )


def _class_table(attacks: Mapping[str, AttackView], shown: str) -> Table:
    """Return one row for each class: the attack shown, with interval and drop, then the others."""
    others = [attack for attack in attacks if attack != shown]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            line.name,
            line.n,
            line.accuracy,
            f"{line.low} to {line.high}" if line.n.value else NOTHING,
            line.drop,
            *(attacks[other].classes[line.index].accuracy for other in others),
        )
        for line in attacks[shown].lowest_first
    )
    return Table(
        "Classes",
        ("Class", "Images", shown, "95 % interval", "Drop", *others),
        rows,
        f"Accuracy in per cent, lowest under {shown} first. The interval is that of one class on "
        "its own (Wilson) and the drop is in points from clean, both under "
        f"{shown}.",
    )


def _group_table(
    grouping: str, of: Mapping[str, Scores], attacks: Mapping[str, AttackScores]
) -> Table:
    first = next(iter(of.values()))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            each.name,
            whole(each.n),
            *(percent(scores.per_class[i].accuracy) for scores in of.values()),
        )
        for i, each in enumerate(first.per_class)
    )
    return Table(
        f"Groups: {grouping}",
        ("Group", "Images", *attacks),
        rows,
        "Accuracy in per cent; an image counts as right only if its class is right.",
    )


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


def _errors(pattern: ErrorPattern) -> tuple[tuple[str, Mapping[str, Figure]], ...]:
    """Return name and figures of each class, as the source and as the target of errors."""
    return tuple(
        (
            source.name,
            {
                "errors_from": whole(source.errors),
                "error_entropy": ratio(source.entropy),
                "error_entropy_corrected": ratio(source.entropy_corrected),
                "top_target": whole(source.top_target),
                "top_target_share": percent(source.top_share),
                "errors_into": whole(target.errors),
                "share_of_errors": percent(target.share),
                "false_positive_rate": percent(target.false_positive_rate),
            },
        )
        for source, target in zip(pattern.sources, pattern.targets, strict=True)
    )


def _confusion_table(attacks: Mapping[str, AttackScores]) -> Table | None:
    """The most frequent confusion of each attack, beside the same pair among clean errors."""
    rows: list[tuple[Cell, ...]] = []
    clean_KK = attacks["clean"].confusion if "clean" in attacks else None
    for attack, scores in attacks.items():
        if not isinstance(scores.target, TargetConfusion):
            continue
        pair, clean = scores.target.worst_pair, scores.target.clean
        before = None
        if pair and clean_KK is not None and clean_KK[pair.source].any():
            before = float(clean_KK[pair.source, pair.target] / clean_KK[pair.source].sum())
        rows.append(
            (
                attack,
                whole(scores.target.errors),
                f"{pair.source_name} → {pair.target_name}" if pair else NOTHING,
                whole(pair.count if pair else None),
                percent(pair.rate if pair else None),
                percent(before),
                ratio(scores.target.gini),
                ratio(clean.gini if clean else None),
            )
        )
    if not rows:
        return None
    return Table(
        "Where errors go",
        (
            "Attack",
            "Errors",
            "Most frequent confusion",
            "Images",
            "Rate",
            "Rate, clean",
            "Gini of targets",
            "Gini, clean",
        ),
        tuple(rows),
        "Rate: per cent of the images of the true class. Gini of targets: 0 when wrong "
        "predictions fall on all classes alike, towards 1 when one class takes them all. The "
        "clean figures are the baseline: similar classes are confused without an attack too.",
    )


def _error_table(scores: AttackScores, attack: str) -> Table | None:
    if not isinstance(scores.target, TargetConfusion):
        return None
    pattern, clean = scores.target, scores.target.clean
    rows = []
    for i, (name, figures) in enumerate(_errors(pattern)):
        top = pattern.sources[i].top_target
        clean_top = clean.sources[i].top_target if clean else None
        rows.append(
            (
                name,
                figures["errors_from"],
                pattern.sources[top].name if top is not None else NOTHING,
                figures["top_target_share"],
                pattern.sources[clean_top].name if clean_top is not None else NOTHING,
                figures["error_entropy_corrected"],
                figures["share_of_errors"],
                figures["false_positive_rate"],
            )
        )
    return Table(
        f"Errors class by class under {attack}",
        (
            "Class",
            "Errors",
            "Most often taken for",
            "Share",
            "Most often, clean",
            "Entropy",
            "Share of all errors it receives",
            "False positives",
        ),
        tuple(rows),
        "Entropy: 1 when the errors of a class spread evenly over all others, 0 when all go to "
        "one (Miller–Madow corrected). Shares and false positives in per cent.",
    )


def _targeted_table(attacks: Mapping[str, AttackScores]) -> Table | None:
    rows: list[tuple[Cell, ...]] = []
    for attack, scores in attacks.items():
        if not isinstance(scores.target, TargetedSuccess):
            continue
        rows.extend(
            (attack, into.name, whole(into.n), percent(into.success), percent(out.success))
            for into, out in zip(scores.target.by_target, scores.target.by_source, strict=True)
        )
    if not rows:
        return None
    return Table(
        "Targeted attack",
        ("Attack", "Class", "Attempts at it", "Reached it", "Left it for the class aimed at"),
        tuple(rows),
        "Success in per cent of attempts, one attempt for each image and target.",
    )


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
