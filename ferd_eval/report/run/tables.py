"""The tables of a report that are made of figures alone, ready for every format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ferd_eval.errors import listed
from ferd_eval.metrics import (
    AttackScores,
    ErrorPattern,
    Profile,
    Scores,
    TargetConfusion,
    TargetedSuccess,
)
from ferd_eval.metrics.figures import FIGURES, WORST_CLASS, ratios_last
from ferd_eval.report.format import (
    NOTHING,
    PRINTERS,
    Cell,
    FormattedValue,
    Table,
    percent,
    ratio,
    span,
    whole,
)

if TYPE_CHECKING:
    from ferd_eval.report.run.build import AttackView, ClassLine, RunView

_COULD_BE_WORST = "Classes that could be the worst"

#: Names listed in a table; the rest are counted.
_MOST_NAMES = 2


def overall(scores: Scores) -> Iterator[tuple[str, str, FormattedValue]]:
    """Key, heading and value of each figure over all classes, and of each end of its interval."""
    yield "n", "Images", whole(scores.n)
    for key, each in FIGURES.items():
        printer = PRINTERS[each.unit]
        yield key, each.heading, printer(scores.figures[key])
        if each.interval:
            low, high = scores.intervals[each.interval_key] or (None, None)
            yield f"{each.interval_key}_low", f"{each.heading}, lower end", printer(low)
            yield f"{each.interval_key}_high", f"{each.heading}, upper end", printer(high)
        if each is WORST_CLASS:
            suspects = scores.possibly_worst
            count = None if suspects is None else len(suspects)
            yield "possibly_worst", _COULD_BE_WORST, whole(count)


def summary(runs: Sequence[RunView]) -> Table:
    """One row for each attack and run; of several runs the best of each attack stands out."""
    several = len(runs) > 1
    shown_figures = [each for each in FIGURES.values() if each.in_summary]
    first, second, *others = (each.heading for each in shown_figures)
    columns = (
        "Attack", *(("Run",) if several else ()), first, second, "95 % interval", *others,
        "Could be the worst",
    )  # fmt: skip
    attacks = dict.fromkeys(attack for run in runs for attack in run.attacks)
    rows: list[tuple[Cell, ...]] = []
    best: set[tuple[int, int]] = set()
    for attack in attacks:
        those = [run for run in runs if attack in run.attacks]
        for run in those:
            shown = run.attacks[attack]
            average, worst, *further = (shown.overall[each.key] for each in shown_figures)
            name = (run.name,) if several else ()
            interval = shown.intervals[WORST_CLASS.interval_key]
            rows.append((attack, *name, average, worst, interval, *further, suspects(shown)))
        if len(those) > 1:
            best.update(_best(rows, columns, first=len(rows) - len(those)))
    note = (
        "Accuracy in per cent. The 95 % interval is that of the class that truly is lowest, "
        "whichever it is; with 95 % confidence it is among those that could be the worst. Worst "
        "10 %: mean of the lowest tenth of the classes. 95 % floor: with 95 % confidence every "
        "class is at least this accurate under the attack. SD: standard deviation over classes; "
        "NSD: SD divided by the mean over classes; it falls whenever the mean rises, so read it "
        "beside the worst class."
    )
    if any(run.successes for run in runs):
        note += (
            " Under a targeted attack an image is right only if it is so for every class aimed at."
        )
    if several:
        note += " The best of each attack is in bold."
    return Table(
        "All attacks",
        columns,
        tuple(rows),
        note,
        frozenset(best),
    )


def suspects(shown: AttackView) -> str:
    """``cat``, ``cat or dog``, ``cat, dog or one of 3 more``: what could be the worst class."""
    names = shown.possibly_worst
    if names is None:
        return f"lowest seen: {shown.lowest[0]}" if shown.lowest else NOTHING
    return listed(names, _MOST_NAMES, "or") or NOTHING


def _best(
    rows: Sequence[tuple[Cell, ...]], columns: Sequence[str], first: int
) -> Iterator[tuple[int, int]]:
    """Cells of ``rows[first:]`` that print like the best of their column."""
    for figure in (each for each in FIGURES.values() if each.in_summary):
        column = columns.index(figure.heading)
        cells = [
            (row, cell.text, cell.value)
            for row in range(first, len(rows))
            if isinstance(cell := rows[row][column], FormattedValue) and cell.value is not None
        ]
        if cells:
            extreme = max if figure.more_is_better else min
            winner = extreme(cells, key=lambda item: item[2])[1]
            yield from ((row, column) for row, text, _ in cells if text == winner)


def inference_table(shown: AttackView) -> Table:
    """Each figure over all classes with its interval and what may be concluded from it."""
    rows: list[tuple[Cell, ...]] = []
    for each in ratios_last():
        if each.meaning:
            ends = shown.intervals.get(each.interval_key, FormattedValue(None, NOTHING))
            rows.append((each.heading, shown.overall[each.key], ends, each.meaning))
    names = shown.possibly_worst
    among = "not known: the audit saw only a sample" if names is None else _among(names)
    count = shown.overall["possibly_worst"]
    rows.append((_COULD_BE_WORST, count, FormattedValue(None, NOTHING), among))
    return Table(
        f"How sure are the figures under {shown.id}?",
        ("Figure", "Estimate", "95 % interval", "What it says"),
        tuple(rows),
        "Intervals are for other images of the same kind, this network and this attack. Those of "
        "the worst class, the worst 10 % and the gap allow for the class having been picked after "
        "the fact. A dash: no interval.",
    )


def _among(names: Sequence[str]) -> str:
    if not names:
        return "no class has an image"
    return f"{listed(names)}: with 95 % confidence the class that truly is lowest is among them"


def side_by_side_table(
    attack: str, names: Sequence[str], lines: Sequence[Sequence[ClassLine]]
) -> Table:
    """Return each class under one attack, one column a run."""
    return Table(
        f"Classes side by side under {attack}",
        ("Class", *names),
        tuple((of[0].name, *(line.accuracy for line in of)) for of in lines),
        f"Accuracy in per cent, lowest of {names[0]} first. Whether a difference is more than "
        "chance needs a paired test on the same images: ferd-eval compare.",
    )


def class_table(attacks: Mapping[str, AttackView], shown: str) -> Table:
    """Return one row for each class: the attack shown, with interval and drop, then the others."""
    others = [attack for attack in attacks if attack != shown]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            line.name,
            line.n,
            line.accuracy,
            _between(line.low, line.high),
            _between(line.least, line.most),
            {True: "yes", False: "no", None: NOTHING}[line.possibly_worst],
            line.drop,
            *(attacks[other].classes[line.index].accuracy for other in others),
        )
        for line in attacks[shown].lowest_first
    )
    return Table(
        "Classes",
        (
            "Class",
            "Images",
            shown,
            "95 % interval",
            "All at once",
            "Could be worst",
            "Drop",
            *others,
        ),
        rows,
        f"Accuracy in per cent, lowest under {shown} first. The 95 % interval is that of one class "
        "on its own (Wilson); those under All at once hold for all classes together. Could be "
        "worst: no other class is shown to be lower (95 % confidence over all comparisons). The "
        f"drop is in points from clean. All four are under {shown}.",
    )


def _between(low: FormattedValue, high: FormattedValue) -> FormattedValue:
    return span(None if low.value is None or high.value is None else (low.value, high.value))


def group_table(
    grouping: str, of: Mapping[str, Scores], attacks: Mapping[str, AttackScores]
) -> Table:
    """One row for each group, one column for each attack."""
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


def profile_table(attack: str, profile: Profile) -> Table:
    """One row for each ε."""
    return Table(
        f"{attack} over ε",
        ("ε", "Average", "95 % interval", "Worst class", "95 % interval"),
        tuple(
            (text, percent(average), span(average95), percent(worst), span(worst95))
            for text, average, average95, worst, worst95 in zip(
                profile.eps_text,
                profile.average,
                profile.average95,
                profile.worst_class,
                profile.worst_class95,
                strict=True,
            )
        ),
        "Accuracy in per cent. The interval beside the worst class is that of the class that "
        "truly is lowest at this ε, whichever it is.",
    )


def error_figures(pattern: ErrorPattern) -> tuple[tuple[str, Mapping[str, FormattedValue]], ...]:
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


def confusion_table(attacks: Mapping[str, AttackScores]) -> Table | None:
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


def error_table(scores: AttackScores, attack: str) -> Table | None:
    """Where the errors of each class go under one attack; None for a targeted one."""
    if not isinstance(scores.target, TargetConfusion):
        return None
    pattern, clean = scores.target, scores.target.clean
    rows = []
    for i, (name, figures) in enumerate(error_figures(pattern)):
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


def targeted_table(attacks: Mapping[str, AttackScores]) -> Table | None:
    """Each class as the one aimed at and as the one left; None where no attack aims."""
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
