"""Tables of errors: where they go, by attack and by class, and the success of targeted attacks."""

from __future__ import annotations

from collections.abc import Mapping

from ferd_eval.metrics import AttackScores, ErrorPattern, TargetConfusion, TargetedSuccess
from ferd_eval.report.format import NOTHING, Cell, FormattedValue, Table, percent, ratio, whole


def error_figures(pattern: ErrorPattern) -> list[dict[str, FormattedValue]]:
    """Metric → figure of each class, as the source and as the target of errors."""
    return [
        {
            "errors_from": whole(source.errors),
            "error_entropy": ratio(source.entropy),
            "error_entropy_corrected": ratio(source.entropy_corrected),
            "top_target": whole(source.top_target),
            "top_target_share": percent(source.top_share),
            "errors_into": whole(target.errors),
            "share_of_errors": percent(target.share),
            "false_positive_rate": percent(target.false_positive_rate),
        }
        for source, target in zip(pattern.sources, pattern.targets, strict=True)
    ]


def confusion_table(attacks: Mapping[str, AttackScores]) -> Table | None:
    """The most frequent confusion of each attack, beside the same pair among clean errors."""
    rows: list[dict[str, Cell]] = []
    clean_KK = attacks["clean"].confusion if "clean" in attacks else None
    for attack, scores in attacks.items():
        if not isinstance(scores.target, TargetConfusion):
            continue
        pair, clean = scores.target.worst_pair, scores.target.clean
        before = None
        if pair and clean_KK is not None and clean_KK[pair.source].any():
            before = float(clean_KK[pair.source, pair.target] / clean_KK[pair.source].sum())
        rows.append(
            {
                "Attack": attack,
                "Errors": whole(scores.target.errors),
                "Most frequent confusion": f"{pair.source_name} → {pair.target_name}"
                if pair
                else NOTHING,
                "Images": whole(pair.count if pair else None),
                "Rate": percent(pair.rate if pair else None),
                "Rate, clean": percent(before),
                "Gini of targets": ratio(scores.target.gini),
                "Gini, clean": ratio(clean.gini if clean else None),
            }
        )
    if not rows:
        return None
    return Table.of(
        "Where errors go",
        rows,
        "Rate: per cent of the images of the true class. Gini of targets: 0 when wrong "
        "predictions fall on all classes alike, towards 1 when one class takes them all. The "
        "clean figures are the baseline: similar classes are confused without an attack too.",
    )


def error_table(scores: AttackScores, attack: str) -> Table | None:
    """Where the errors of each class go under one attack; None for a targeted one."""
    if not isinstance(scores.target, TargetConfusion):
        return None
    sources, clean = scores.target.sources, scores.target.clean

    def top(of: ErrorPattern | None, i: int) -> str:
        target = of.sources[i].top_target if of else None
        return NOTHING if target is None else sources[target].name

    return Table.of(
        f"Errors class by class under {attack}",
        (
            {
                "Class": sources[i].name,
                "Errors": figures["errors_from"],
                "Most often taken for": top(scores.target, i),
                "Share": figures["top_target_share"],
                "Most often, clean": top(clean, i),
                "Entropy": figures["error_entropy_corrected"],
                "Share of all errors it receives": figures["share_of_errors"],
                "False positives": figures["false_positive_rate"],
            }
            for i, figures in enumerate(error_figures(scores.target))
        ),
        "Entropy: 1 when the errors of a class spread evenly over all others, 0 when all go to "
        "one (Miller–Madow corrected). Shares and false positives in per cent.",
    )


def targeted_table(attacks: Mapping[str, AttackScores]) -> Table | None:
    """Each class as target and as source; None where no attack is targeted."""
    rows: list[dict[str, Cell]] = [
        {
            "Attack": attack,
            "Class": into.name,
            "Attempts at it": whole(into.n),
            "Reached it": percent(into.success),
            "Left it for the class aimed at": percent(out.success),
        }
        for attack, scores in attacks.items()
        if isinstance(scores.target, TargetedSuccess)
        for into, out in zip(scores.target.by_target, scores.target.by_source, strict=True)
    ]
    note = "Success in per cent of attempts, one attempt for each image and target."
    return Table.of("Targeted attack", rows, note) if rows else None
