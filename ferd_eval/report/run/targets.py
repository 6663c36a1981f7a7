"""Are some classes easier to be attacked into? The answer in words, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, ErrorShift, ShareChange, TargetEffect, TargetExcess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import NOTHING, Cell, Figure, Table, percent, whole

QUESTION = "Are some classes easier to be attacked into?"

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3

_Interval = tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class TargetsView:
    """What a run says about the classes that attacks lead to.

    Attributes:
        answers: a row for each attack that says something.
        tables: the figures behind them, by class: of each targeted attack, and of the untargeted
            one that leaves the lowest average.
        overall: attack → figure over all classes.
        by_class: attack → name and figures of each class.
    """

    answers: Table
    tables: tuple[Table, ...]
    overall: Mapping[str, Mapping[str, Figure]]
    by_class: Mapping[str, tuple[tuple[str, Mapping[str, Figure]], ...]]


def targets_view(attacks: Mapping[str, AttackScores]) -> TargetsView | None:
    """Gather what the attacks of one run say; None where none says anything."""
    effects, shifts = _effects(attacks), _shifts(attacks)
    if not effects and not shifts:
        return None
    strongest = min(shifts, key=lambda attack: attacks[attack].average or 0.0, default=None)
    return TargetsView(
        answers=_answers(effects, shifts),
        tables=(
            *(_effect_table(attack, effect) for attack, effect in effects.items()),
            *([_shift_table(strongest, shifts[strongest])] if strongest is not None else []),
        ),
        overall={attack: _effect_figures(effect) for attack, effect in effects.items()}
        | {attack: _shift_figures(shift) for attack, shift in shifts.items()},
        by_class={
            attack: tuple((each.name, _excess_figures(each)) for each in effect.per_target)
            for attack, effect in effects.items()
        }
        | {
            attack: tuple((each.name, _change_figures(each)) for each in shift.per_target)
            for attack, shift in shifts.items()
        },
    )


def effect_sentence(attack: str, effect: TargetEffect) -> str:
    """Say whether a targeted attack succeeds more toward some classes."""
    points = {each.name: each.excess for each in effect.per_target}
    names = [each.name for each in effect.per_target]
    if not (effect.easier or effect.harder):
        open_to = _widest([each.excess95 for each in effect.per_target])
        return (
            f"Not shown: under {attack} no class is reached more or less often than the other "
            f"classes aimed at by more than chance explains. Differences of up to {open_to} points "
            "remain possible."
        )
    easier = sorted((names[k] for k in effect.easier), key=lambda name: -(points[name] or 0))
    harder = sorted((names[k] for k in effect.harder), key=lambda name: points[name] or 0)
    parts = [
        f"{_named(those, points)} {how} often"
        for those, how in ((easier, "more"), (harder, "less"))
        if those
    ]
    return (
        f"Yes: aimed at the same images, {attack} reaches {' and '.join(parts)} than the other "
        "classes on average (points above or below it)."
        f"{_baseline([effect.per_target[names.index(name)] for name in easier[:1] + harder[:1]])}"
    )


def shift_sentence(attack: str, shift: ErrorShift) -> str:
    """Say whether errors under an untargeted attack end elsewhere than clean errors."""
    points = {each.name: each.change for each in shift.per_target}
    names = [each.name for each in shift.per_target]
    counts = (
        f"{counted(shift.errors, 'error', 'errors')} under {attack} and {shift.clean_errors} "
        "without an attack"
    )
    if not (shift.more or shift.fewer):
        open_to = _widest([each.change95 for each in shift.per_target])
        return (
            f"Not shown: no class takes another share of the {counts}, by more than chance "
            f"explains. Differences of up to {open_to} points remain possible."
        )
    more = sorted((names[k] for k in shift.more), key=lambda name: -points[name])
    fewer = sorted((names[k] for k in shift.fewer), key=lambda name: points[name])
    parts = [
        f"{_named(those, points)} {'takes' if len(those) == 1 else 'take'} a {how} share"
        for those, how in ((more, "larger"), (fewer, "smaller"))
        if those
    ]
    return (
        f"Errors move: {' and '.join(parts)} of errors under {attack} than of clean errors "
        f"(points; {counts})."
    )


def _effects(attacks: Mapping[str, AttackScores]) -> dict[str, TargetEffect]:
    return {
        attack: scores.toward
        for attack, scores in attacks.items()
        if isinstance(scores.toward, TargetEffect)
    }


def _shifts(attacks: Mapping[str, AttackScores]) -> dict[str, ErrorShift]:
    return {
        attack: scores.toward
        for attack, scores in attacks.items()
        if isinstance(scores.toward, ErrorShift)
    }


def _answers(effects: Mapping[str, TargetEffect], shifts: Mapping[str, ErrorShift]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (attack, effect_sentence(attack, effect), p_value(effect.p))
        for attack, effect in effects.items()
    ]
    rows += [
        (attack, shift_sentence(attack, shift), p_value(shift.p))
        for attack, shift in shifts.items()
    ]
    only_untargeted = (
        ""
        if effects
        else " An untargeted attack takes the nearest way out, so it does not say which classes "
        "could be reached: --attacks clean,targeted does."
    )
    return Table(
        QUESTION,
        ("Attack", "Answer", "p"),
        tuple(rows),
        "p is the chance of a difference as large as the clearest one if there were none; a class "
        f"is named where p is below 0.05, all classes counted together.{only_untargeted} That a "
        "class is easier to be attacked into is a property of this network and these images. It is "
        "no proof of bias: classes that look alike, or that the network also names too often "
        "without an attack, are reached more easily.",
    )


def _effect_table(attack: str, effect: TargetEffect) -> Table:
    present = sorted(
        effect.per_target, key=lambda each: (each.excess is None, -(each.excess or 0), each.index)
    )
    some = effect.most_targets < len(effect.per_target) - 1
    likeliest = (
        f" Each image was aimed at {effect.most_targets} classes only: a class is compared with "
        "the others aimed at on the images that had it among theirs; nothing is said of the rest."
        if some
        else ""
    )
    return Table(
        f"Success by class aimed at under {attack}",
        (
            "Class aimed at",
            "Images",
            "Reached it",
            "95 % interval",
            "Excess",
            "Interval of the excess",
            "Taken for it, clean",
            "Share of clean errors",
        ),
        tuple(
            (
                each.name,
                whole(each.n),
                percent(each.success),
                _interval(each.success95),
                percent(each.excess),
                _interval(each.excess95),
                percent(each.clean_rate),
                percent(each.clean_share),
            )
            for each in present
        ),
        "In per cent of the images aimed at the class. Excess: points above what the same images "
        "showed on average toward the other classes they were aimed at, so that one class far "
        "above puts the others a little below; its intervals hold for all classes at once (95 %, "
        "by image and true class). The last two columns are the baseline: "
        "how often the same images are taken for the class without an attack, and its share of all "
        f"clean errors.{likeliest}",
    )


def _shift_table(attack: str, shift: ErrorShift) -> Table:
    return Table(
        f"Where errors end: {attack} against clean",
        ("Class", "Errors", "Share", "Errors, clean", "Share, clean", "Change", "95 % interval"),
        tuple(
            (
                each.name,
                whole(each.errors),
                percent(each.share),
                whole(each.clean_errors),
                percent(each.clean_share),
                percent(each.change),
                _interval(each.change95),
            )
            for each in sorted(shift.per_target, key=lambda each: (-each.change, each.index))
        ),
        "Shares of all errors in per cent, changes in points; the intervals hold for all classes "
        f"at once (95 %, paired by image). {percent(shift.total_variation)} % of the errors would "
        "have to end elsewhere for the shares to agree, some of it by chance alone. An attack also "
        "breaks images of other classes than those mistaken without one, so shares may move "
        "without any class being sought.",
    )


def _effect_figures(effect: TargetEffect) -> Mapping[str, Figure]:
    return {"target_images": whole(effect.images), "target_p": p_value(effect.p)}


def _shift_figures(shift: ErrorShift) -> Mapping[str, Figure]:
    return {
        "share_total_variation": percent(shift.total_variation),
        "share_p": p_value(shift.p),
    }


def _excess_figures(each: TargetExcess) -> Mapping[str, Figure]:
    return {
        "target_n": whole(each.n),
        "target_success": percent(each.success),
        **_ends("target_success95", each.success95),
        "target_excess": percent(each.excess),
        **_ends("target_excess95", each.excess95),
        "target_clean_rate": percent(each.clean_rate),
        "target_clean_share": percent(each.clean_share),
    }


def _change_figures(each: ShareChange) -> Mapping[str, Figure]:
    return {
        "share_clean": percent(each.clean_share),
        "share_change": percent(each.change),
        **_ends("share_change95", each.change95),
    }


def _ends(metric: str, ends: _Interval) -> Mapping[str, Figure]:
    low, high = ends or (None, None)
    return {f"{metric}_low": percent(low), f"{metric}_high": percent(high)}


def p_value(p: float) -> Figure:
    """Three decimals, and no zero."""
    return Figure(p, "<0.001" if p < 0.001 else f"{p:.3f}")


def _baseline(extremes: Sequence[TargetExcess]) -> str:
    """What the classes named first receive of the errors without an attack, where it is known."""
    known = [
        f"{each.name} receives {percent(each.clean_share)} %"
        for each in extremes
        if each.clean_share is not None
    ]
    return f" Of the errors without an attack {' and '.join(known)}." if known else ""


def _named(names: Sequence[str], points: Mapping[str, float | None]) -> str:
    return listed([f"{name} ({_plus(points[name])})" for name in names], _MOST_NAMES)


def _plus(points: float | None) -> str:
    text = percent(points).text
    return f"+{text}" if points is not None and points > 0 else text


def _widest(intervals: Sequence[_Interval]) -> Figure:
    """The largest difference that an interval allows."""
    return percent(max((abs(end) for ends in intervals if ends for end in ends), default=None))


def _interval(ends: _Interval) -> str:
    return NOTHING if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"
