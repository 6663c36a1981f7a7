"""Three sentences for a reader who reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from ferd_eval.metrics import AttackScores, ClassScore, Scorecard, TargetedSuccess
from ferd_eval.report.figure import percent, whole


def headline_attack(card: Scorecard, manifest: Mapping[str, Any]) -> str | None:
    """Return the attack that leaves the lowest average within the run's ε, the first among equals.

    Attacks of an ε profile above the threat model do not count. None where no attack was run.
    """
    budget = (manifest.get("threat") or {}).get("eps")

    def within(scores: AttackScores) -> bool:
        eps = scores.constants.get("eps")
        return eps is None or budget is None or eps <= budget * (1 + 1e-9)

    run = {
        attack: scores.average
        for attack, scores in card.attacks.items()
        if attack != "clean" and scores.average is not None and within(scores)
    }
    return min(run, key=lambda attack: run[attack] or 0.0) if run else None


def sentences(
    card: Scorecard, manifest: Mapping[str, Any], headline: str | None
) -> tuple[str, str, str]:
    """Say how robust on average, which classes are lowest, and how sure this is."""
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
        _average(card, manifest, headline, shown),
        _lowest(present, shown, attacked=headline is not None),
        _certainty(present, attacked=headline is not None),
    )


def _average(
    card: Scorecard, manifest: Mapping[str, Any], headline: str | None, shown: AttackScores
) -> str:
    of = f"the {whole(shown.n)} images of {card.dataset.get('name', 'the data set')}"
    if headline is None:
        return (
            f"No attack was run: the model classifies {percent(shown.average)} % of {of} "
            "correctly, which says nothing about robustness."
        )
    eps = shown.constants.get("eps_text") or (manifest.get("threat") or {}).get("eps_text")
    budget = f" at ε = {eps}" if eps else ""
    strongest = "the strongest attack run" if _attacks(card) > 1 else "the only attack run"
    clean = card.attacks.get("clean")
    whatever = (
        ", whatever class the attack aims at" if isinstance(shown.target, TargetedSuccess) else ""
    )
    unattacked = f", against {percent(clean.average)} % without an attack" if clean else ""
    return (
        f"Under {headline}{budget}, {strongest}, the model classifies {percent(shown.average)} % "
        f"of {of} correctly{whatever}{unattacked}.{_audited(shown)}"
    )


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
    count = 3 if len(present) > 3 else 1
    lowest = [f"{each.name} ({percent(each.accuracy)} %)" for each in present[:count]]
    named = f"{', '.join(lowest[:-1])} and {lowest[-1]}" if count > 1 else lowest[0]
    subject = f"The lowest classes are {named}" if count > 1 else f"The lowest class is {named}"
    highest = present[-1]
    return f"{subject}, the highest is {highest.name} ({percent(highest.accuracy)} %); {floor}."


def _certainty(present: list[ClassScore], *, attacked: bool) -> str:
    counts = [each.n for each in present]
    if min(counts) == max(counts):
        images = f"{counts[0]} image{'s' if counts[0] > 1 else ''} per class"
    else:
        images = f"{min(counts)} to {max(counts)} images per class (median {median(counts):g})"
    widest = max(each.wilson95[1] - each.wilson95[0] for each in present if each.wilson95)
    advice = (
        "too wide to rank classes: score more images"
        if widest > 0.2
        else "so do not rank classes whose intervals overlap"
    )
    bound = (
        ", and attacks that were not tried could only lower these figures, which bound true "
        "robustness from above"
        if attacked
        else ""
    )
    return (
        f"This rests on {images}, which leaves 95 % intervals up to {percent(widest)} points wide "
        f"({advice}); the lowest class of a sample tends to look worse than it is, being picked "
        f"after the fact{bound}."
    )


def _attacks(card: Scorecard) -> int:
    return sum(attack != "clean" for attack in card.attacks)
