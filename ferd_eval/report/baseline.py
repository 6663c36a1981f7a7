"""A run against an earlier one on the same images: what moved by more than noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.errors import UserError, listed
from ferd_eval.metrics import ClassDelta, compare
from ferd_eval.metrics.comparison.alignment import mismatch
from ferd_eval.metrics.comparison.circumstances import differing, network
from ferd_eval.report.format import percent
from ferd_eval.results.digests import require_unaltered
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import find_runs


@dataclass(frozen=True)
class Moved:
    """Differences under one attack that exceed the noise, by the tests of ``ferd-eval compare``.

    Attributes:
        lower, higher: classes, by exact McNemar tests adjusted for all classes (Holm), at 5 %.
        average: the average before and now, where the 95 % interval of its difference leaves out 0.
    """

    lower: tuple[ClassDelta, ...]
    higher: tuple[ClassDelta, ...]
    average: tuple[float, float] | None


def moved(before: Outcomes, now: Outcomes, attack: str) -> Moved:
    """Compare two runs of the same measurement.

    Raises:
        UserError: they are not on the same images, or not of the same attack.
    """
    if attack not in before.attacks:
        raise UserError(
            f"the earlier run was not scored under {attack}; it has {', '.join(before.attacks)}. "
            "Score it alike, or give --attack one that both have."
        )
    found = compare(before, now, attack)
    if unlike := mismatch([before, now], attack):
        raise UserError(
            f"{attack} is not the same attack as in the earlier run: {unlike.constant} is "
            f"{unlike.there}, was {unlike.here}. Score both alike."
        )
    average = found.average
    beyond = average.above_zero or average.below_zero
    ends = average.first, average.second
    return Moved(
        tuple(found.per_class[k] for k in found.worse),
        tuple(found.per_class[k] for k in found.better),
        (ends[0], ends[1]) if beyond and ends[0] is not None and ends[1] is not None else None,
    )


def in_words(delta: ClassDelta) -> str:
    """``Shirt from 39.0 to 20.0 % of 100 images (p = 0.0021 after Holm)``."""
    assert delta.p_holm is not None
    return (
        f"{delta.name} from {percent(delta.first)} to {percent(delta.second)} % of {delta.n} "
        f"images (p = {delta.p_holm:.2g} after Holm)"
    )


def drift(before: Outcomes, now: Outcomes) -> Iterator[str]:
    """Each way in which a run is not what an earlier one lets expect."""
    for attack in before.attacks:
        if attack not in now.attacks:
            yield f"{attack} was not run"
            continue
        try:
            found = moved(before, now, attack)
        except UserError as reason:
            yield str(reason).removesuffix(".")
            continue
        under = "without an attack" if attack == "clean" else f"under {attack}"
        if found.average:
            first, second = map(percent, found.average)
            yield f"{under} the average went from {first} to {second} %, beyond its 95 % interval"
        for each in (*found.lower, *found.higher):
            yield f"{under} {in_words(each)}"


def circumstances_apart(before: Outcomes, now: Outcomes) -> Iterator[str]:
    """What else is not the same, and may be why."""
    networks = network(before.manifest), network(now.manifest)
    if None in networks:
        yield "whether the network is the one of the earlier run is not known"
    elif networks[0] != networks[1]:
        yield "the network is another one than in the earlier run"
    found = differing([before, now]).items()
    if changed := [f"{what} {was or 'unknown'} → {is_ or 'unknown'}" for what, (was, is_) in found]:
        yield f"scored otherwise than the earlier run: {listed(changed, 12)}"


def read_earlier(runs: Mapping[str, Path], earlier: Path, flag: str) -> dict[str, Outcomes]:
    """The earlier run of each run: the one given, else in the folder given that of the same name.

    Raises:
        UserError: there is none, or it was altered.
    """
    found = find_runs(earlier)
    if found.is_one_run:
        by_name = dict.fromkeys(runs, found.runs[0])
    else:
        below = {str(run.relative_to(earlier)): run for run in found.runs}
        if missing := [name for name in runs if name not in below]:
            raise UserError(
                f"{flag} {earlier} holds no run {missing[0]}; it has {listed([*below])}. Give the "
                "folder of one run."
            )
        by_name = {name: below[name] for name in runs}
    for folder in {*by_name.values()}:
        require_unaltered(folder)
    read = {folder: Outcomes.load(folder) for folder in {*by_name.values()}}
    return {name: read[folder] for name, folder in by_name.items()}
