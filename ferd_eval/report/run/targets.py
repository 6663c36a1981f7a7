"""Do attacks favour some target classes? The answer in words, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, ErrorShift, TargetEffect, TargetExcess
from ferd_eval.metrics.confusion.target_bias import ShareChange
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import (
    FormattedValue,
    Table,
    difference,
    ends,
    percent,
    probability,
    span,
    whole,
)

QUESTION = "Are some classes easier to be attacked into?"

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3


def targets_tables(attacks: Mapping[str, AttackScores]) -> list[Table]:
    """Answers of one run's attacks, then the figures behind them by class; none without answers.

    Figures are those of each targeted attack, and of the untargeted one that leaves the lowest
    average.
    """
    toward = {attack: scores.toward for attack, scores in attacks.items()}
    effects = {a: effect for a, effect in toward.items() if isinstance(effect, TargetEffect)}
    shifts = {a: shift for a, shift in toward.items() if isinstance(shift, ErrorShift)}
    if not effects and not shifts:
        return []
    strongest = min(shifts, key=lambda attack: attacks[attack].average or 0.0, default=None)
    return [
        _answers(effects, shifts),
        *(_effect_table(attack, effect) for attack, effect in effects.items()),
        *([_shift_table(strongest, shifts[strongest])] if strongest is not None else []),
    ]


def toward_figures(found: TargetEffect | ErrorShift) -> dict[str, FormattedValue]:
    """Metric → figure over all classes."""
    if isinstance(found, TargetEffect):
        return {"target_images": whole(found.images), "target_p": probability(found.p)}
    total = percent(found.total_variation)
    return {"share_total_variation": total, "share_p": probability(found.p)}


def class_figures(each: TargetExcess | ShareChange) -> dict[str, FormattedValue]:
    """Metric → figure of one class."""
    if isinstance(each, ShareChange):
        return {
            "share_clean": percent(each.clean_share),
            "share_change": percent(each.change),
            **_ends("share_change95", each.change95),
        }
    return {
        "target_n": whole(each.n),
        "target_success": percent(each.success),
        **_ends("target_success95", each.success95),
        "target_excess": percent(each.excess),
        **_ends("target_excess95", each.excess95),
        "target_clean_rate": percent(each.clean_rate),
        "target_clean_share": percent(each.clean_share),
    }


def _ends(metric: str, interval: tuple[float, float] | None) -> dict[str, FormattedValue]:
    low, high = ends(interval)
    return {f"{metric}_low": low, f"{metric}_high": high}


def _effect_answer(attack: str, effect: TargetEffect) -> str:
    """Whether a targeted attack succeeds more toward some classes."""
    of = effect.per_target
    points = [each.excess or 0.0 for each in of]
    up, down = _in_order(effect.easier, effect.harder, points)
    if not up and not down:
        return (
            f"Not shown: under {attack} no class is reached more or less often than the other "
            "classes aimed at by more than chance explains. Differences of up to "
            f"{_widest([each.excess95 for each in of])} points remain possible."
        )
    parts = [
        f"{_named(those, of, points)} {how} often"
        for those, how in ((up, "more"), (down, "less"))
        if those
    ]
    known = [
        f"{of[k].name} receives {percent(of[k].clean_share)} %"
        for k in (*up[:1], *down[:1])
        if of[k].clean_share is not None
    ]
    return (
        f"Yes: aimed at the same images, {attack} reaches {' and '.join(parts)} than the other "
        "classes on average (points above or below it)."
        + (f" Of the errors without an attack {' and '.join(known)}." if known else "")
    )


def _shift_answer(attack: str, shift: ErrorShift) -> str:
    """Whether errors under an untargeted attack end elsewhere than clean errors."""
    of = shift.per_target
    points = [each.change for each in of]
    up, down = _in_order(shift.more, shift.fewer, points)
    counts = (
        f"{counted(shift.errors, 'error', 'errors')} under {attack} and {shift.clean_errors} "
        "without an attack"
    )
    if not up and not down:
        return (
            f"Not shown: no class takes another share of the {counts}, by more than chance "
            f"explains. Differences of up to {_widest([each.change95 for each in of])} points "
            "remain possible."
        )
    parts = [
        f"{_named(those, of, points)} {'takes' if len(those) == 1 else 'take'} a {how} share"
        for those, how in ((up, "larger"), (down, "smaller"))
        if those
    ]
    return (
        f"Errors move: {' and '.join(parts)} of errors under {attack} than of clean errors "
        f"(points; {counts})."
    )


def _in_order(
    up: Sequence[int], down: Sequence[int], points: Sequence[float]
) -> tuple[list[int], list[int]]:
    """The largest differences first."""
    return sorted(up, key=lambda k: -points[k]), sorted(down, key=lambda k: points[k])


def _named(
    places: Sequence[int], of: Sequence[TargetExcess | ShareChange], points: Sequence[float]
) -> str:
    """``cat (+3.4) and dog (+1.2)``."""
    return listed([f"{of[k].name} ({difference(points[k])})" for k in places], _MOST_NAMES)


def _widest(intervals: Sequence[tuple[float, float] | None]) -> FormattedValue:
    """The largest difference that an interval allows."""
    return percent(max((abs(end) for each in intervals if each for end in each), default=None))


def _answers(effects: Mapping[str, TargetEffect], shifts: Mapping[str, ErrorShift]) -> Table:
    answers = [(attack, _effect_answer(attack, each), each.p) for attack, each in effects.items()]
    answers += [(attack, _shift_answer(attack, each), each.p) for attack, each in shifts.items()]
    only_untargeted = (
        ""
        if effects
        else " An untargeted attack takes the nearest way out, so it does not say which classes "
        "could be reached: --attacks clean,targeted does."
    )
    return Table.of(
        QUESTION,
        ({"Attack": attack, "Answer": said, "p": probability(p)} for attack, said, p in answers),
        "p is the chance of a difference as large as the clearest one if there were none; a class "
        f"is named where p is below 0.05, all classes counted together.{only_untargeted} That a "
        "class is easier to be attacked into is a property of this network and these images. It is "
        "no proof of bias: classes that look alike, or that the network also names too often "
        "without an attack, are reached more easily.",
    )


def _effect_table(attack: str, effect: TargetEffect) -> Table:
    likeliest = (
        f" Each image was aimed at {effect.most_targets} classes only: a class is compared with "
        "the others aimed at on the images that had it among theirs; nothing is said of the rest."
        if effect.most_targets < len(effect.per_target) - 1
        else ""
    )
    highest_first = sorted(
        effect.per_target, key=lambda each: (each.excess is None, -(each.excess or 0), each.index)
    )
    return Table.of(
        f"Success by class aimed at under {attack}",
        (
            {
                "Class aimed at": each.name,
                "Images": whole(each.n),
                "Reached it": percent(each.success),
                "95 % interval": str(span(each.success95)),
                "Excess": percent(each.excess),
                "Interval of the excess": str(span(each.excess95)),
                "Taken for it, clean": percent(each.clean_rate),
                "Share of clean errors": percent(each.clean_share),
            }
            for each in highest_first
        ),
        "In per cent of the images aimed at the class. Excess: points above what the same images "
        "showed on average toward the other classes they were aimed at, so that one class far "
        "above puts the others a little below; its intervals hold for all classes at once (95 %, "
        "by image and true class). The last two columns are the baseline: "
        "how often the same images are taken for the class without an attack, and its share of all "
        f"clean errors.{likeliest}",
    )


def _shift_table(attack: str, shift: ErrorShift) -> Table:
    return Table.of(
        f"Where errors end: {attack} against clean",
        (
            {
                "Class": each.name,
                "Errors": whole(each.errors),
                "Share": percent(each.share),
                "Errors, clean": whole(each.clean_errors),
                "Share, clean": percent(each.clean_share),
                "Change": percent(each.change),
                "95 % interval": str(span(each.change95)),
            }
            for each in sorted(shift.per_target, key=lambda each: (-each.change, each.index))
        ),
        "Shares of all errors in per cent, changes in points; the intervals hold for all classes "
        f"at once (95 %, paired by image). {percent(shift.total_variation)} % of the errors would "
        "have to end elsewhere for the shares to agree, some of it by chance alone. An attack also "
        "breaks images of other classes than those mistaken without one, so shares may move "
        "without any class being sought.",
    )
