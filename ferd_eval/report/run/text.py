"""Three sentences for a reader who reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, ClassScore, Scorecard, TargetedSuccess
from ferd_eval.report.format import percent, whole

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3


def headline_attack(card: Scorecard, manifest: Mapping[str, Any]) -> str | None:
    """Return the attack that leaves the lowest average within the run's ε, the first among equals.

    Attacks of an ε profile above the threat model do not count. None where no attack was run.
    """
    return strongest(
        {attack: scores.average for attack, scores in card.attacks.items()},
        {attack: scores.constants for attack, scores in card.attacks.items()},
        manifest,
    )


def strongest(
    average: Mapping[str, float | None],
    constants: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
) -> str | None:
    """Return the attack of the lowest average, as `headline_attack` does."""
    run = within_budget(average, constants, manifest)
    return min(run, key=run.__getitem__) if run else None


def strongest_shared(
    cards: Sequence[Scorecard], manifests: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return the attack that leaves the lowest average over several runs, each within its ε.

    None where no attack was run on all.
    """
    first, *others = (
        within_budget(
            {attack: scores.average for attack, scores in card.attacks.items()},
            {attack: scores.constants for attack, scores in card.attacks.items()},
            manifest,
        )
        for card, manifest in zip(cards, manifests, strict=True)
    )
    total = {
        attack: value + sum(other[attack] for other in others)
        for attack, value in first.items()
        if all(attack in other for other in others)
    }
    return min(total, key=total.__getitem__) if total else None


def within_budget(
    average: Mapping[str, float | None],
    constants: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
) -> dict[str, float]:
    """Return the averages under attacks within the run's ε, without those of clean images."""
    budget = (manifest.get("threat") or {}).get("eps")

    def within(attack: str) -> bool:
        eps = constants[attack].get("eps")
        return eps is None or budget is None or eps <= budget * (1 + 1e-9)

    return {
        attack: value
        for attack, value in average.items()
        if attack != "clean" and value is not None and within(attack)
    }


def sentences(
    card: Scorecard, manifest: Mapping[str, Any], headline: str | None, *, shared: bool = False
) -> tuple[str, str, str]:
    """Say how robust on average, which classes are lowest, and how sure this is.

    Args:
        headline: attack to speak of; with `shared` the strongest that several runs met.
    """
    clean = card.attacks.get("clean")
    shown = card.attacks[headline] if headline else clean or next(iter(card.attacks.values()))
    present = sorted(
        (each for each in shown.per_class if each.accuracy is not None),
        key=lambda each: (each.accuracy, each.index),
    )
    if not present:
        nothing = "The run holds no images yet, so there is nothing to report."
        return nothing, "No class has an image.", "Finish the run, then report again."
    return (
        _average(card, manifest, headline, shown, shared=shared),
        _lowest(present, shown, attacked=headline is not None),
        _certainty(present, shown, attacked=headline is not None),
    )


def _average(
    card: Scorecard,
    manifest: Mapping[str, Any],
    headline: str | None,
    shown: AttackScores,
    *,
    shared: bool,
) -> str:
    of = f"the {whole(shown.n)} images of {card.dataset.get('name', 'the data set')}"
    if headline is None:
        return (
            f"No attack was run: the model classifies {percent(shown.average)} % of {of} "
            "correctly, which says nothing about robustness."
        )
    budget = _budget(shown.constants, manifest)
    if _attacks(card) == 1:
        rank = "the only attack run"
    elif shared:
        rank = "the strongest attack that all runs met"
    else:
        rank = "the strongest attack run"
    clean = card.attacks.get("clean")
    whatever = (
        ", whatever class the attack aims at" if isinstance(shown.target, TargetedSuccess) else ""
    )
    unattacked = f", against {percent(clean.average)} % without an attack" if clean else ""
    return (
        f"Under {headline}{budget}, {rank}, the model classifies {percent(shown.average)} % "
        f"of {of} correctly{whatever}{unattacked}{_stronger(card, manifest, headline)}."
        f"{_audited(shown)}"
    )


def _stronger(card: Scorecard, manifest: Mapping[str, Any], headline: str) -> str:
    """What the run's own strongest attack leaves, where another is shown that all runs met."""
    own = headline_attack(card, manifest)
    if own is None or own == headline:
        return ""
    return f"; {own} leaves {percent(card.attacks[own].average)} %"


def _budget(constants: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The ε of an attack, or what is known in its place."""
    imported = manifest.get("engine") == "imported"
    threat = {} if imported else manifest.get("threat") or {}
    eps = constants.get("eps_text") or threat.get("eps_text")
    stored_in = constants.get("stored_in")
    if eps:
        return f" at ε = {eps}" + (f", its images stored in {stored_in}" if stored_in else "")
    if not imported:
        return ""
    largest = constants.get("largest_linf")
    at_least = f" (the largest change found is {255 * largest:.2f}/255)" if largest else ""
    return f" at an ε that nobody stated{at_least}"


def _audited(shown: AttackScores) -> str:
    if shown.audit is None or not shown.audit.leaves_open:
        return ""
    bound = shown.audit.overall
    return (
        f" Part of the attack saw only {whole(bound.sampled)} of {whole(bound.survivors)} "
        f"survivors; had it seen all, at least {percent(bound.lower)} % would stand (95 % "
        "confidence)."
    )


def _lowest(present: list[ClassScore], shown: AttackScores, *, attacked: bool) -> str:
    under = " under this attack" if attacked else ""
    floor = (
        f"with 95 % confidence every class is right at least {percent(shown.floor95)} % of the "
        f"time{under} (the 95 % floor)"
    )
    if shown.floor95 == 0:
        floor = f"no floor above 0 can be claimed for every class{under} with 95 % confidence"
    if len(present) == 1:
        only = present[0]
        return f"Only {only.name} has images ({percent(only.accuracy)} %); {floor}."
    return f"{_suspects(present, shown)}; {floor}."


def _suspects(present: list[ClassScore], shown: AttackScores) -> str:
    """Which classes cannot be excluded as the lowest, the lowest of the sample first."""
    if shown.possibly_worst is None:
        lowest = present[0]
        return (
            f"{lowest.name} is the lowest class among these images ({percent(lowest.accuracy)} %), "
            "though others may be lower, since part of the attack saw only a sample"
        )
    named = [
        f"{each.name} ({percent(each.accuracy)} %)"
        for each in (shown.per_class[i] for i in shown.possibly_worst)
    ]
    if len(named) == 1:
        return f"With 95 % confidence {named[0]} is the weakest class"
    if len(named) == len(present) and len(named) > _MOST_NAMES:
        lowest = present[0]
        return (
            f"No class can be excluded as the weakest ({lowest.name} is lowest here, "
            f"{percent(lowest.accuracy)} %)"
        )
    return f"With 95 % confidence the weakest class is {listed(named, _MOST_NAMES, 'or')}"


def _certainty(present: list[ClassScore], shown: AttackScores, *, attacked: bool) -> str:
    counts = [each.n for each in present]
    if min(counts) == max(counts):
        images = f"{counts[0]} image{'s' if counts[0] > 1 else ''} per class"
    else:
        images = f"{min(counts)} to {max(counts)} images per class (median {median(counts):g})"
    widest = max(each.wilson95[1] - each.wilson95[0] for each in present if each.wilson95)
    audited = shown.audit is not None and shown.audit.leaves_open
    advice = (
        f"too wide to rank classes: {'run the whole attack' if audited else 'score more images'}"
        if widest > 0.2
        else "so do not rank classes whose intervals overlap"
    )
    bound = (
        ", and attacks that were not tried could only lower these figures, which bound true "
        "robustness from above"
        if attacked
        else ""
    )
    ends = shown.worst_class95
    weakest = (
        f"; the weakest class, whichever it is, lies between {percent(ends[0])} and "
        f"{percent(ends[1])} % (95 % confidence)"
        if ends and len(present) > 1
        else ""
    )
    return (
        f"This rests on {images}, which leaves 95 % intervals up to {percent(widest)} points wide "
        f"({advice}){weakest}{bound}."
    )


def _attacks(card: Scorecard) -> int:
    return sum(attack != "clean" for attack in card.attacks)
