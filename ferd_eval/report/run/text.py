"""The run in three sentences, and the choice of the attack they speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, ClassScore, TargetedSuccess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import percent, whole
from ferd_eval.report.run.model import Run
from ferd_eval.results.attack_id import is_within_threat

#: Classes named in a sentence; the rest are counted.
_MOST_NAMES = 3


def headline_attack(run: Run) -> str | None:
    """Return the attack that leaves the lowest average within the run's ε, the first among equals.

    Attacks of an ε profile above the threat model do not count. None where no attack was run.
    """
    return run.scorecard.strongest


def strongest_shared(runs: Sequence[Run]) -> str | None:
    """Return the attack that leaves the lowest average over several runs, each within its ε.

    None where no attack was run on all.
    """
    total = {}
    for attack in runs[0].scorecard.attacks:
        found = [(run.scorecard.attacks.get(attack), run.manifest) for run in runs]
        averages = [
            scores.average
            for scores, manifest in found
            if scores is not None and is_within_threat(attack, scores.constants, manifest)
        ]
        if len(averages) == len(runs) and None not in averages:
            total[attack] = sum(averages)
    return min(total, key=total.__getitem__, default=None)


def sentences(run: Run, headline: str | None, *, shared: bool = False) -> tuple[str, str, str]:
    """Say how robust on average, which classes are lowest, and how sure this is.

    Args:
        headline: attack to speak of; with `shared` the strongest that several runs met.
    """
    attacks = run.scorecard.attacks
    shown = attacks[headline or ("clean" if "clean" in attacks else next(iter(attacks)))]
    present = sorted(
        (each for each in shown.per_class if each.accuracy is not None),
        key=lambda each: (each.accuracy, each.index),
    )
    if not present:
        nothing = "The run holds no images yet, so there is nothing to report."
        return nothing, "No class has an image.", "Finish the run, then report again."
    return (
        _average(run, headline, shown, shared=shared),
        _lowest(present, shown, attacked=headline is not None),
        _certainty(present, shown, attacked=headline is not None),
    )


def _average(run: Run, headline: str | None, shown: AttackScores, *, shared: bool) -> str:
    card = run.scorecard
    of = f"the {whole(shown.n)} images of {card.dataset.get('name', 'the data set')}"
    if headline is None:
        return (
            f"No attack was run: the model classifies {percent(shown.average)} % of {of} "
            "correctly, which says nothing about robustness."
        )
    if sum(attack != "clean" for attack in card.attacks) == 1:
        rank = "the only attack run"
    else:
        rank = f"the strongest attack {'that all runs met' if shared else 'run'}"
    extra = ", whatever class the attack aims at" * isinstance(shown.target, TargetedSuccess)
    if clean := card.attacks.get("clean"):
        extra += f", against {percent(clean.average)} % without an attack"
    own = headline_attack(run)
    if own not in (None, headline):  # `headline` is the strongest that all runs met
        extra += f"; {own} leaves {percent(card.attacks[own].average)} %"
    return (
        f"Under {headline}{_budget(shown.constants, run.manifest)}, {rank}, the model classifies "
        f"{percent(shown.average)} % of {of} correctly{extra}.{_audited(shown)}"
    )


def _budget(constants: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The ε of an attack; if unknown, the largest change found."""
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
    return f" at an unknown ε{at_least}"


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
        f"no floor above 0 can be claimed for every class{under} with 95 % confidence"
        if shown.floor95 == 0
        else f"with 95 % confidence every class is right at least {percent(shown.floor95)} % of "
        f"the time{under} (the 95 % floor)"
    )
    return f"{_suspects(present, shown)}; {floor}."


def _suspects(present: list[ClassScore], shown: AttackScores) -> str:
    """The classes that cannot be excluded as the lowest, the lowest of the sample first."""
    lowest, accuracy = present[0].name, percent(present[0].accuracy)
    if len(present) == 1:
        return f"Only {lowest} has images ({accuracy} %)"
    if shown.possibly_worst is None:
        return (
            f"{lowest} is the lowest class among these images ({accuracy} %), "
            "though others may be lower, since part of the attack saw only a sample"
        )
    named = [
        f"{each.name} ({percent(each.accuracy)} %)"
        for each in (shown.per_class[i] for i in shown.possibly_worst)
    ]
    if len(named) == 1:
        return f"With 95 % confidence {named[0]} is the weakest class"
    if len(named) == len(present) and len(named) > _MOST_NAMES:
        return f"No class can be excluded as the weakest ({lowest} is lowest here, {accuracy} %)"
    return f"With 95 % confidence the weakest class is {listed(named, _MOST_NAMES, 'or')}"


def _certainty(present: list[ClassScore], shown: AttackScores, *, attacked: bool) -> str:
    counts = [each.n for each in present]
    if min(counts) == max(counts):
        images = f"{counted(counts[0], 'image', 'images')} per class"
    else:
        images = f"{min(counts)} to {max(counts)} images per class (median {median(counts):g})"
    widest = max(each.wilson95[1] - each.wilson95[0] for each in present if each.wilson95)
    audited = shown.audit is not None and shown.audit.leaves_open
    advice = (
        f"too wide to rank classes: {'run the whole attack' if audited else 'score more images'}"
        if widest > 0.2
        else "so do not rank classes whose intervals overlap"
    )
    extra = ""
    if (ends := shown.worst_class95) and len(present) > 1:
        extra += (
            f"; the weakest class, whichever it is, lies between {percent(ends[0])} and "
            f"{percent(ends[1])} % (95 % confidence)"
        )
    if attacked:
        extra += (
            ", and attacks that were not tried could only lower these figures, which bound true "
            "robustness from above"
        )
    return (
        f"This rests on {images}, which leaves 95 % intervals up to {percent(widest)} points wide "
        f"({advice}){extra}."
    )
