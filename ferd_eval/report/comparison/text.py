"""What a comparison found, in words that can be quoted: the verdict with its reason, how sure, why.

Every number is printed by `ferd_eval.report.format`, as in the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ferd_eval.errors import listed
from ferd_eval.metrics import Comparison, Delta, Verdict
from ferd_eval.metrics.comparison.circumstances import one_network
from ferd_eval.metrics.comparison.delta import FOLDS
from ferd_eval.metrics.figures import WORST_10PCT
from ferd_eval.report.comparison.model import Contest
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


def lowest_delta_of(found: Comparison) -> Delta:
    """What stands for the lowest class: from 100 classes on, the lowest tenth."""
    return found.worst_10pct if found.lowest == WORST_10PCT.key else found.worst_class


def lowest_words(found: Comparison) -> str:
    """What `lowest_delta_of` is called."""
    return "lowest tenth of the classes" if found.lowest == WORST_10PCT.key else "lowest class"


def interval_ends(
    ends: tuple[float, float] | None, margin: float = 0.0, *, as_ratio: bool = False
) -> tuple[FormattedValue, FormattedValue]:
    """The printed ends: on which side of 0 and of a loss of `margin` they lie shows.

    What never varied has none: it does not say how it would vary.
    """
    low, high = ends if ends and ends[0] < ends[1] else (None, None)
    if as_ratio:
        return ratio_end(low), ratio_end(high)
    return percent_end(low, (0.0, -margin)), percent_end(high, (0.0, -margin))


def headline(contest: Contest) -> str:
    """The verdict with its reason."""
    found, first, second = contest.comparison, contest.first.name, contest.second.name
    claim = {
        Verdict.DOMINATES: f"{second} dominates {first}",
        Verdict.FAIRER: f"{second} is fairer than {first} at no average cost",
        Verdict.LEVELS_DOWN: f"{second} is fairer than {first} by levelling down",
        Verdict.STRONGER: f"{second} is stronger than {first}, not fairer",
        Verdict.WEAKER: f"{second} is weaker than {first}",
        Verdict.MIXED: f"{second} against {first} is mixed",
        Verdict.INDISTINGUISHABLE: f"{second} and {first} cannot be told apart",
    }[found.verdict]
    reason = {
        Verdict.DOMINATES: _dominates,
        Verdict.FAIRER: _fairer,
        Verdict.LEVELS_DOWN: _levels_down,
        Verdict.STRONGER: _stronger,
        Verdict.WEAKER: _weaker,
        Verdict.MIXED: _mixed,
        Verdict.INDISTINGUISHABLE: _indistinguishable,
    }[found.verdict](found)
    return f"{_under(contest)}, {claim}: {reason}.{_one_network(contest)}"


def _one_network(contest: Contest) -> str:
    """That both sides are runs of one checkpoint, where they are."""
    if not one_network([*contest.first.manifests, *contest.second.manifests]):
        return ""
    return (
        " Both are the same checkpoint: what differs comes from how it was scored, not from the "
        "network."
    )


def basis(contest: Contest) -> str:
    """How many networks and images this rests on, and of what it says nothing."""
    found = contest.comparison
    counts = [each.n for each in found.per_class if each.n]
    per_class = (
        f"{counts[0]} per class"
        if min(counts) == max(counts)
        else f"{min(counts)} to {max(counts)} per class, median {median(counts):g}"
    )
    images = f"{whole(found.n)} images ({per_class}), the same for both sides"
    if found.seeds == (1, 1):
        return (
            f"This compares two checkpoints on {images}. One seed says nothing of a method: other "
            "seeds may differ by more than this. For a verdict on methods give three or more runs "
            "a side."
        )
    first, second = found.seeds
    networks = f"{first} networks" if first == second else f"{first} and {second} networks"
    return (
        f"This compares two methods by {networks} a side on {images}. {contest.pairing} The "
        "intervals allow for training seeds (Student's t) and for the choice of images."
    )


def detectable(contest: Contest) -> str | None:
    """What would be missed; None where it is not known."""
    found = contest.comparison
    both = (
        (lowest_delta_of(found), f"in the {lowest_words(found)}"),
        (found.average, "on average"),
    )
    parts = [
        f"{percent_end(delta.detectable)} points {where}"
        for delta, where in both
        if delta.detectable is not None
    ]
    stuck = [(delta, where) for delta, where in both if delta.stuck]
    said = []
    if stuck:
        said.append(
            f"Nothing can be told of a difference {' or '.join(where for _, where in stuck)}: "
            f"{'it is' if len(stuck) == 1 else 'these are'} {percent(stuck[0][0].first)} % on both "
            "sides."
        )
    if parts:
        said.append(
            f"A true difference of less than {' or '.join(parts)} would be missed more often than "
            "one time in five."
        )
    return " ".join(said) or None


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
    one, present = len(classes) == 1, sum(each.value is not None for each in found.per_class)
    return (
        f"The interval{'' if one else 's'} of {names} {'leaves' if one else 'leave'} out 0, yet "
        f"that is not counted as beyond chance: an interval is of a class on its own, and the test "
        f"is over {_together(present)}."
    )


def split(contest: Contest) -> str:
    """Why the NSD differs."""
    nsd, parts = contest.comparison.nsd, contest.comparison.nsd_split
    if nsd.value is None and None in contest.comparison.nsd_raw:
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


def _under(contest: Contest) -> str:
    if contest.attack == "clean":
        return "Without an attack"
    eps = contest.constants.get("eps_text")
    at = f" at ε = {eps}" if eps and "@" not in contest.attack else ""
    return f"Under {contest.attack}{at}"


def _dominates(found: Comparison) -> str:
    lowest = lowest_delta_of(found)
    return (
        f"{_classes(found, found.better)} higher beyond chance{_holm(found)} and no class is lower "
        f"among these images; {_stands(found.average, 'the average', found)}, and "
        f"{_stands(lowest, _its(found), found)}"
    )


def _fairer(found: Comparison) -> str:
    return (
        f"{_stands(lowest_delta_of(found), _its(found), found)}, and the average does not lose "
        f"more than {_points(found.margin)} ({_aside(found.average, found)})"
        f"{_against(found, found.worse, 'lower')}"
    )


def _levels_down(found: Comparison) -> str:
    rise = _stands(lowest_delta_of(found), _its(found), found)
    if found.average.below_zero:
        fall = _stands(found.average, "the average", found)
    else:
        fall = (
            f"a loss of {_points(found.margin)} on average is not excluded "
            f"({_aside(found.average, found)})"
        )
    return f"{rise}, but {fall}{_against(found, found.worse, 'lower')}"


def _stronger(found: Comparison) -> str:
    lowest = lowest_delta_of(found)
    if found.average.above_zero:
        fall = (
            _stands(lowest, _its(found), found)
            if lowest.below_zero
            else f"{_its(found)} is not shown to be higher ({_aside(lowest, found)})"
        )
        return (
            f"{_stands(found.average, 'the average', found)}, while {fall}"
            f"{_against(found, found.worse, 'lower')}"
        )
    return (
        f"{_classes(found, found.better)} higher beyond chance{_holm(found)} and none lower; "
        f"{_stands(found.average, 'the average', found)}, and "
        f"{_stands(lowest, _its(found), found)}"
    )


def _weaker(found: Comparison) -> str:
    lowest = lowest_delta_of(found)
    average = _stands(found.average, "the average", found)
    if not found.average.below_zero and found.worse:
        return (
            f"{_classes(found, found.worse)} lower beyond chance{_holm(found)} and none higher; "
            f"{average}, and {_stands(lowest, _its(found), found)}"
        )
    if not found.average.below_zero:
        return f"{_stands(lowest, _its(found), found)}, and {average}"
    return (
        f"{average}, and {_stands(lowest, _its(found), found)}"
        f"{_against(found, found.better, 'higher')}"
    )


def _mixed(found: Comparison) -> str:
    lower = f" and {_classes(found, found.worse)} lower" if found.worse else ""
    return (
        f"{_classes(found, found.better)} higher{lower} beyond "
        f"chance{_holm(found)}; {_stands(found.average, 'the average', found)}, and "
        f"{_stands(lowest_delta_of(found), _its(found), found)}"
    )


def _indistinguishable(found: Comparison) -> str:
    average = _aside(found.average, found)
    lowest = _aside(lowest_delta_of(found), found)
    return (
        f"neither the average ({average}) nor the {lowest_words(found)} ({lowest}) is shown to "
        f"differ, nor does any single class beyond chance{_holm(found)}; that does not show them "
        "to be equal"
    )


def _its(found: Comparison) -> str:
    return f"its {lowest_words(found)}"


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
    if low.value is None:
        return f"{difference(delta.value)}, no interval: {_without_interval(delta, found)}"
    return f"{difference(delta.value)}, {low} to {high}"


def _without_interval(delta: Delta, found: Comparison) -> str:
    if delta.stuck:
        return f"it is {percent(delta.first)} % on both sides"
    if found.seeds != (1, 1) and min(each.n for each in found.per_class if each.n) >= FOLDS:
        return "neither seeds nor images vary"
    return "a class has too few images"


def _classes(found: Comparison, places: Sequence[int]) -> str:
    """``cat, dog and 3 more are``, the largest differences first."""
    chosen = sorted(places, key=lambda k: -abs(found.per_class[k].value or 0.0))
    names = [found.per_class[k].name or NOTHING for k in chosen]
    return f"{listed(names, _MOST_NAMES)} {'is' if len(names) == 1 else 'are'}"


def _against(found: Comparison, places: Sequence[int], way: str) -> str:
    """Classes that go the other way are part of the verdict's sentence, not of the small print."""
    return f"; {_classes(found, places)} {way} beyond chance{_holm(found)}" if places else ""


def _holm(found: Comparison) -> str:
    present = sum(each.value is not None for each in found.per_class)
    return f" (at 5 % over {_together(present)})" if present > 1 else " (at 5 %)"


def _together(present: int) -> str:
    return f"all {present} classes together, Holm" if present > 1 else "that class alone"


def _points(margin: float) -> str:
    points = f"{100 * margin:.6g}"
    return f"{points} point" if points == "1" else f"{points} points"
