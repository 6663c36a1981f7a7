"""Do attacks favour some target classes? The answer in words, and the figures behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, ErrorShift, TargetEffect, TargetExcess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import FormattedValue, Table, percent, span, whole
from ferd_eval.report.run.model import ClassFigures, TargetsView

QUESTION = "Are some classes easier to be attacked into?"

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3

_Interval = tuple[float, float] | None


def targets_view(attacks: Mapping[str, AttackScores]) -> TargetsView | None:
    """Gather the answers of one run's attacks; None where there is none."""
    toward = {attack: scores.toward for attack, scores in attacks.items()}
    effects = {a: effect for a, effect in toward.items() if isinstance(effect, TargetEffect)}
    shifts = {a: shift for a, shift in toward.items() if isinstance(shift, ErrorShift)}
    if not effects and not shifts:
        return None
    strongest = min(shifts, key=lambda attack: attacks[attack].average or 0.0, default=None)
    return TargetsView(
        answers=_answers(effects, shifts),
        tables=(
            *(_effect_table(attack, effect) for attack, effect in effects.items()),
            *([_shift_table(strongest, shifts[strongest])] if strongest is not None else []),
        ),
        overall={
            attack: {"target_images": whole(effect.images), "target_p": p_value(effect.p)}
            for attack, effect in effects.items()
        }
        | {
            attack: {
                "share_total_variation": percent(shift.total_variation),
                "share_p": p_value(shift.p),
            }
            for attack, shift in shifts.items()
        },
        by_class={attack: _effect_figures(effect) for attack, effect in effects.items()}
        | {attack: _shift_figures(shift) for attack, shift in shifts.items()},
    )


def effect_sentence(attack: str, effect: TargetEffect) -> str:
    """Say whether a targeted attack succeeds more toward some classes."""
    if not (effect.easier or effect.harder):
        open_to = _widest(each.excess95 for each in effect.per_target)
        return (
            f"Not shown: under {attack} no class is reached more or less often than the other "
            f"classes aimed at by more than chance explains. Differences of up to {open_to} points "
            "remain possible."
        )
    points = {k: each.excess or 0.0 for k, each in enumerate(effect.per_target)}
    easier = sorted(effect.easier, key=lambda k: -points[k])
    harder = sorted(effect.harder, key=lambda k: points[k])
    names = [each.name for each in effect.per_target]
    parts = [
        f"{_named(classes, names, points)} {how} often"
        for classes, how in ((easier, "more"), (harder, "less"))
        if classes
    ]
    return (
        f"Yes: aimed at the same images, {attack} reaches {' and '.join(parts)} than the other "
        "classes on average (points above or below it)."
        f"{_baseline([effect.per_target[k] for k in easier[:1] + harder[:1]])}"
    )


def shift_sentence(attack: str, shift: ErrorShift) -> str:
    """Say whether errors under an untargeted attack end elsewhere than clean errors."""
    counts = (
        f"{counted(shift.errors, 'error', 'errors')} under {attack} and {shift.clean_errors} "
        "without an attack"
    )
    if not (shift.more or shift.fewer):
        open_to = _widest(each.change95 for each in shift.per_target)
        return (
            f"Not shown: no class takes another share of the {counts}, by more than chance "
            f"explains. Differences of up to {open_to} points remain possible."
        )
    points = {k: each.change for k, each in enumerate(shift.per_target)}
    names = [each.name for each in shift.per_target]
    more = sorted(shift.more, key=lambda k: -points[k])
    fewer = sorted(shift.fewer, key=lambda k: points[k])
    parts = [
        f"{_named(classes, names, points)} {'takes' if len(classes) == 1 else 'take'} a {how} share"
        for classes, how in ((more, "larger"), (fewer, "smaller"))
        if classes
    ]
    return (
        f"Errors move: {' and '.join(parts)} of errors under {attack} than of clean errors "
        f"(points; {counts})."
    )


def _answers(effects: Mapping[str, TargetEffect], shifts: Mapping[str, ErrorShift]) -> Table:
    answers = [(attack, effect_sentence(attack, each), each.p) for attack, each in effects.items()]
    answers += [(attack, shift_sentence(attack, each), each.p) for attack, each in shifts.items()]
    only_untargeted = (
        ""
        if effects
        else " An untargeted attack takes the nearest way out, so it does not say which classes "
        "could be reached: --attacks clean,targeted does."
    )
    return Table.of(
        QUESTION,
        ({"Attack": attack, "Answer": said, "p": p_value(p)} for attack, said, p in answers),
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
    likeliest = (
        f" Each image was aimed at {effect.most_targets} classes only: a class is compared with "
        "the others aimed at on the images that had it among theirs; nothing is said of the rest."
        if effect.most_targets < len(effect.per_target) - 1
        else ""
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


def _effect_figures(effect: TargetEffect) -> ClassFigures:
    return tuple(
        (
            each.name,
            {
                "target_n": whole(each.n),
                "target_success": percent(each.success),
                **_ends("target_success95", each.success95),
                "target_excess": percent(each.excess),
                **_ends("target_excess95", each.excess95),
                "target_clean_rate": percent(each.clean_rate),
                "target_clean_share": percent(each.clean_share),
            },
        )
        for each in effect.per_target
    )


def _shift_figures(shift: ErrorShift) -> ClassFigures:
    return tuple(
        (
            each.name,
            {
                "share_clean": percent(each.clean_share),
                "share_change": percent(each.change),
                **_ends("share_change95", each.change95),
            },
        )
        for each in shift.per_target
    )


def _ends(metric: str, ends: _Interval) -> Mapping[str, FormattedValue]:
    low, high = ends or (None, None)
    return {f"{metric}_low": percent(low), f"{metric}_high": percent(high)}


def p_value(p: float) -> FormattedValue:
    """Three decimals, and no zero."""
    return FormattedValue(p, "<0.001" if p < 0.001 else f"{p:.3f}")


def _baseline(extremes: Sequence[TargetExcess]) -> str:
    """The share of clean errors that the classes named first receive, where it is known."""
    known = [
        f"{each.name} receives {percent(each.clean_share)} %"
        for each in extremes
        if each.clean_share is not None
    ]
    return f" Of the errors without an attack {' and '.join(known)}." if known else ""


def _named(classes: Sequence[int], names: Sequence[str], points: Mapping[int, float]) -> str:
    """``cat (+3.4) and dog (+1.2)``."""
    signs = ("+" if points[k] > 0 else "" for k in classes)
    said = [
        f"{names[k]} ({sign}{percent(points[k])})" for k, sign in zip(classes, signs, strict=True)
    ]
    return listed(said, _MOST_NAMES)


def _widest(intervals: Iterable[_Interval]) -> FormattedValue:
    """The largest difference that an interval allows."""
    return percent(max((abs(end) for ends in intervals if ends for end in ends), default=None))
