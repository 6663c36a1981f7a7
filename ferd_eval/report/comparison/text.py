"""A comparison in words that can be quoted: the verdict with its reason, its certainty, the NSD.

Every number is printed by `ferd_eval.report.format`, as in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from ferd_eval.errors import listed
from ferd_eval.metrics import Comparison, Delta, Verdict
from ferd_eval.metrics.comparison.circumstances import one_network
from ferd_eval.metrics.comparison.delta import FOLDS
from ferd_eval.metrics.figures import WORST_10PCT
from ferd_eval.report.comparison.model import ComparisonReport
from ferd_eval.report.format import (
    NOTHING,
    FormattedValue,
    difference,
    percent,
    percent_end,
    probability,
    ratio,
    ratio_difference,
    ratio_end,
    whole,
)

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3

_CLAIMS = {
    Verdict.DOMINATES: "{second} dominates {first}",
    Verdict.FAIRER: "{second} is fairer than {first} at no average cost",
    Verdict.LEVELS_DOWN: "{second} is fairer than {first} by levelling down",
    Verdict.STRONGER: "{second} is stronger than {first}, not fairer",
    Verdict.WEAKER: "{second} is weaker than {first}",
    Verdict.MIXED: "{second} against {first} is mixed",
    Verdict.INDISTINGUISHABLE: "{second} and {first} cannot be told apart",
}


def lowest_delta_of(found: Comparison) -> Delta:
    """Of the lowest class; from 100 classes on, of the lowest tenth."""
    return found.worst_10pct if found.lowest == WORST_10PCT.key else found.worst_class


def lowest_words(found: Comparison) -> str:
    """Name of `lowest_delta_of` in a sentence."""
    return "lowest tenth of the classes" if found.lowest == WORST_10PCT.key else "lowest class"


def interval_ends(
    ends: tuple[float, float] | None, margin: float = 0.0, *, as_ratio: bool = False
) -> tuple[FormattedValue, FormattedValue]:
    """The printed ends; their digits show on which side of 0 and of −`margin` they lie.

    A difference that never varied has none: its variation is unknown.
    """
    low, high = ends if ends and ends[0] < ends[1] else (None, None)
    if as_ratio:
        return ratio_end(low), ratio_end(high)
    return percent_end(low, (0.0, -margin)), percent_end(high, (0.0, -margin))


def headline(report: ComparisonReport) -> str:
    """The verdict with its reason."""
    found, lowest = report.comparison, lowest_delta_of(report.comparison)
    points = f"{100 * found.margin:.6g}"
    reason = _reason(found).format_map(
        {
            "better": _classes(found, found.better),
            "worse": _classes(found, found.worse),
            "holm": _holm(found),
            "average": _stands(found.average, "the average", found),
            "average_aside": _aside(found.average, found),
            "lowest": _stands(lowest, f"its {lowest_words(found)}", found),
            "lowest_aside": _aside(lowest, found),
            "lowest_words": lowest_words(found),
            "margin": f"{points} point{'s' * (points != '1')}",
            "but_lower": _against(found, found.worse, "lower"),
            "but_higher": _against(found, found.better, "higher"),
        }
    )
    eps = report.constants.get("eps_text")
    at = f" at ε = {eps}" if eps and "@" not in report.attack else ""
    under = "Without an attack" if report.attack == "clean" else f"Under {report.attack}{at}"
    claim = _CLAIMS[found.verdict].format(first=report.first.name, second=report.second.name)
    one_checkpoint = (
        " Both are the same checkpoint: what differs comes from how it was scored, not from the "
        "network."
    )
    is_one = one_network([run.manifest for run in (*report.first.runs, *report.second.runs)])
    return f"{under}, {claim}: {reason}.{one_checkpoint if is_one else ''}"


def _reason(found: Comparison) -> str:
    """Template of the reason; `headline` fills in the braces."""
    average, lowest = found.average, lowest_delta_of(found)
    both = "{average}, and {lowest}"
    match found.verdict:
        case Verdict.DOMINATES:
            return (
                "{better} higher beyond chance{holm} and no class is lower among these images; "
            ) + both
        case Verdict.FAIRER:
            return (
                "{lowest}, and the average does not lose more than {margin} ({average_aside})"
                "{but_lower}"
            )
        case Verdict.LEVELS_DOWN if average.below_zero:
            return "{lowest}, but {average}{but_lower}"
        case Verdict.LEVELS_DOWN:
            return (
                "{lowest}, but a loss of {margin} on average is not excluded ({average_aside})"
                "{but_lower}"
            )
        case Verdict.STRONGER if average.above_zero and lowest.below_zero:
            return "{average}, while {lowest}{but_lower}"
        case Verdict.STRONGER if average.above_zero:
            return (
                "{average}, while its {lowest_words} is not shown to be higher ({lowest_aside})"
                "{but_lower}"
            )
        case Verdict.STRONGER:
            return "{better} higher beyond chance{holm} and none lower; " + both
        case Verdict.WEAKER if average.below_zero:
            return both + "{but_higher}"
        case Verdict.WEAKER if found.worse:
            return "{worse} lower beyond chance{holm} and none higher; " + both
        case Verdict.WEAKER:
            return "{lowest}, and {average}"
        case Verdict.MIXED if found.worse:
            return "{better} higher and {worse} lower beyond chance{holm}; " + both
        case Verdict.MIXED:
            return "{better} higher beyond chance{holm}; " + both
        case Verdict.INDISTINGUISHABLE:
            return (
                "neither the average ({average_aside}) nor the {lowest_words} ({lowest_aside}) is "
                "shown to differ, nor does any single class beyond chance{holm}; that does not "
                "show them to be equal"
            )


def sentences(report: ComparisonReport) -> tuple[str, ...]:
    """Differences that would be missed, where known, and the networks and images behind it all."""
    return tuple(filter(None, (" ".join(_detectable(report.comparison)), _basis(report))))


def _basis(report: ComparisonReport) -> str:
    found = report.comparison
    images = (
        f"{whole(found.n)} images ({_per_class([each.n for each in found.per_class if each.n])}), "
        "the same for both sides"
    )
    if found.seeds == (1, 1):
        return (
            f"This compares two checkpoints on {images}. One seed says nothing of a method: other "
            "seeds may differ by more than this. For a verdict on methods give three or more runs "
            "a side."
        )
    networks = " and ".join(map(str, dict.fromkeys(found.seeds)))
    return (
        f"This compares two methods by {networks} networks a side on {images}. {report.pairing} "
        "The intervals allow for training seeds (Student's t) and for the choice of images."
    )


def _per_class(counts: Sequence[int]) -> str:
    """``100 per class``, or their range and median."""
    if min(counts) == max(counts):
        return f"{counts[0]} per class"
    return f"{min(counts)} to {max(counts)} per class, median {median(counts):g}"


def _detectable(found: Comparison) -> Iterator[str]:
    both = (
        (lowest_delta_of(found), f"in the {lowest_words(found)}"),
        (found.average, "on average"),
    )
    if stuck := [(delta, where) for delta, where in both if delta.stuck]:
        places = " or ".join(where for _, where in stuck)
        it_is = "it is" if len(stuck) == 1 else "these are"
        yield (
            f"Nothing can be told of a difference {places}: {it_is} {percent(stuck[0][0].first)} % "
            "on both sides."
        )
    parts = [
        f"{percent_end(delta.detectable)} points {where}"
        for delta, where in both
        if delta.detectable is not None
    ]
    if parts:
        yield (
            f"A true difference of less than {' or '.join(parts)} would be missed more often than "
            "one time in five."
        )


def taken_alone(found: Comparison) -> str:
    """Why classes whose own interval leaves out 0 are not beyond chance; empty without such."""
    classes = [
        each
        for each in found.per_class
        if each.interval95 is not None
        and (each.interval95[0] > 0 or each.interval95[1] < 0)
        and each.index not in (*found.better, *found.worse)
    ]
    if not classes:
        return ""
    classes.sort(key=lambda each: (each.p_holm or 0.0, each.index))
    names = listed(
        [f"{each.name or NOTHING} (Holm p {probability(each.p_holm)})" for each in classes],
        _MOST_NAMES,
    )
    leave = "interval of {} leaves" if len(classes) == 1 else "intervals of {} leave"
    return (
        f"The {leave.format(names)} out 0, yet that is not counted as beyond chance: an interval "
        f"is of a class on its own, and the test is over {_together(found)}."
    )


def split(found: Comparison) -> str:
    """The reason why the NSD differs."""
    nsd, parts = found.nsd, found.nsd_split
    if nsd.value is None and None in found.nsd_raw:
        return "NSD is not compared: where no image is right it has no value."
    if nsd.value is None:
        return "NSD is not compared: it has no value on one side, or a class has a single image."
    if parts is None:
        return (
            f"The debiased NSD goes from {ratio(nsd.first)} to {ratio(nsd.second)}. It is not "
            "split: on one side the classes differ by no more than chance."
        )
    return (
        f"NSD is the spread over classes (SD) divided by their mean, so it falls when the mean "
        f"rises, whether or not the classes come closer. Of its difference, "
        f"{ratio_difference(nsd.value)}, the spread accounts for "
        f"{ratio_difference(parts.by_spread)} and the mean for {ratio_difference(parts.by_mean)}."
    )


def _stands(delta: Delta, what: str, found: Comparison) -> str:
    """``its lowest class is 1.7 points higher (95 % interval 0.1 to 3.3)``, or none shown."""
    low, high = interval_ends(delta.interval95, found.margin)
    if low.value is None or delta.value is None:
        return f"{what} cannot be judged ({_aside(delta, found)})"
    if delta.above_zero or delta.below_zero:
        way = "higher" if delta.above_zero else "lower"
        points = percent_end(abs(delta.value))
        return f"{what} is {points} points {way} (95 % interval {low} to {high})"
    return f"{what} is not shown to differ ({difference(delta.value)}, {low} to {high})"


def _aside(delta: Delta, found: Comparison) -> str:
    """``+1.1, 0.5 to 1.6``."""
    if delta.value is None:
        return "no value"
    low, high = interval_ends(delta.interval95, found.margin)
    if low.value is not None:
        return f"{difference(delta.value)}, {low} to {high}"
    if delta.stuck:
        reason = f"it is {percent(delta.first)} % on both sides"
    elif found.seeds != (1, 1) and min(each.n for each in found.per_class if each.n) >= FOLDS:
        reason = "neither seeds nor images vary"
    else:
        reason = "a class has too few images"
    return f"{difference(delta.value)}, no interval: {reason}"


def _classes(found: Comparison, places: Sequence[int]) -> str:
    """``cat, dog and 3 more are``, the largest differences first."""
    chosen = sorted(places, key=lambda k: -abs(found.per_class[k].value or 0.0))
    names = [found.per_class[k].name or NOTHING for k in chosen]
    return f"{listed(names, _MOST_NAMES)} {'is' if len(names) == 1 else 'are'}"


def _against(found: Comparison, places: Sequence[int], way: str) -> str:
    """Classes that go the other way belong in the verdict's sentence, not in the small print."""
    return f"; {_classes(found, places)} {way} beyond chance{_holm(found)}" if places else ""


def _holm(found: Comparison) -> str:
    several = sum(each.value is not None for each in found.per_class) > 1
    return f" (at 5 % over {_together(found)})" if several else " (at 5 %)"


def _together(found: Comparison) -> str:
    present = sum(each.value is not None for each in found.per_class)
    return f"all {present} classes together, Holm" if present > 1 else "that class alone"
