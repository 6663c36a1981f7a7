"""Gaps of a run as far as its record tells: a list to read before any figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ferd_eval.attacks.registry import BLACK_BOX, access_of
from ferd_eval.errors import listed
from ferd_eval.metrics import AttackScores, Scorecard, TargetedSuccess
from ferd_eval.report.format import percent
from ferd_eval.results.attack_id import eps_of, family_of
from ferd_eval.results.manifest import look_up

#: Attacks of this package that a thorough run holds: family → its name, and what it would show.
_USUAL = {
    "fgsm": "FGSM, the sign of masked gradients when it beats PGD",
    "pgd": "PGD-20",
    "cw": "CW∞, the margin loss",
    "aa": "AutoAttack, the strongest attack here",
}

#: Not measured by any run under attack.
_NEVER_ATTACKED = {
    "Other norms": "changes measured in L2, L1 or L0, such as faint noise over the whole image or "
    "a few pixels changed at will",
    "Attacks made for this network": "all attacks are general ones; one that knows how this "
    "network was defended may find more (adaptive attacks)",
}

#: Not measured by any run of this package.
_NEVER = {
    "Corruptions and natural shift": "noise, blur, weather, compression, rotation, patches, other "
    "cameras, other times",
    "Poisoning and backdoors": "changes of the training data or of the weights",
    "Privacy and confidentiality": "membership inference, inversion, stealing the model",
    "The system around the network": "preprocessing, other safeguards, people in the loop, "
    "feedback, change over time",
}


#: What was not measured, and the consequence for this run.
_Gaps = Iterator[tuple[str, str]]


def unmeasured(card: Scorecard, manifest: Mapping[str, Any], unknown: Sequence[str]) -> _Gaps:
    """List the gaps: those of this run first, those of any run of this package last.

    Args:
        unknown: facts about the run that its record does not hold.
    """
    yield from _images(card, manifest)
    yield from _attacks(card)
    for check in card.trust.checks:
        if check.status == "not measured":
            yield f"Check “{check.name}”", check.statement
    yield from _record(card, manifest, unknown)
    groupings = f" and these groupings of classes: {listed(list(card.groups))}"
    yield from {
        "Other trainings of the same method": "this is one checkpoint; how much a method's figures "
        "vary from training to training needs several",
        "Training data": "whether these images, or near copies, were trained on; bias and errors "
        "in labels",
        "Groups of people, places or devices": "figures are split by classes"
        f"{groupings if card.groups else ''}, not by who or what is in the image",
        **_NEVER,
    }.items()


def epsilons(card: Scorecard) -> list[str]:
    """ε of the attacks that ran, as printed, smallest first."""
    found: dict[float, str] = {}
    for attack, scores in card.attacks.items():
        eps = eps_of(attack, scores.constants)
        if eps is not None and eps > 0:
            found.setdefault(eps, str(scores.constants.get("eps_text") or f"{eps:.4g}"))
    return [found[eps] for eps in sorted(found)]


def _images(card: Scorecard, manifest: Mapping[str, Any]) -> _Gaps:
    selection = card.dataset.get("selection")
    first = next(iter(card.attacks.values()))
    if selection != "all":
        yield (
            "Images that were not scored",
            f"{first.n} images were scored; whether the data set has more was not recorded"
            if selection is None
            else f"only a part of the data set was taken: {selection} ({first.n} images in all); "
            "the rest of it was not looked at",
        )
    if empty := [each.name for each in first.per_class if each.n == 0]:
        yield "Classes without images", f"nothing is known of {listed(empty)}"
    if look_up(manifest, "status") not in (None, "finished"):
        yield "The rest of the run", "it was not finished when this was written"


def _attacks(card: Scorecard) -> _Gaps:
    families = {family_of(attack, scores.constants) for attack, scores in card.attacks.items()}
    covered = families | ({"aa"} if "aa-audited" in families else set())
    if missing := [said for family, said in _USUAL.items() if family not in covered]:
        yield "Attacks that were not run", "; ".join(missing)
    if families == {"clean"}:
        yield "Robustness", "nothing was attacked, so no figure here is evidence of it"
    for attack, scores in card.attacks.items():
        yield from _partly(attack, scores)
    if not any(isinstance(scores.target, TargetedSuccess) for scores in card.attacks.values()):
        yield (
            "Which class an attacker can reach",
            "no attack aimed at chosen classes (--attacks clean,targeted)",
        )
    tried = "no change was tried" if families == {"clean"} else "the ε that was tried is not known"
    if known := epsilons(card):
        tried = f"only ε = {', '.join(known)} was tried"
    yield "Other sizes of change", tried
    yield from _NEVER_ATTACKED.items()
    beyond = "beyond Square's queries, " if any(BLACK_BOX in access_of(f) for f in families) else ""
    yield (
        "Attackers who do not know the weights",
        f"{beyond}images transferred from other networks, and searches by queries alone",
    )


def _partly(attack: str, scores: AttackScores) -> _Gaps:
    """Where an attack's images were stored rounded, or part of it saw only a sample."""
    constants = scores.constants
    if stored_in := constants.get("stored_in"):
        tolerance = 255 * float(constants.get("rounding_tolerance") or 0)
        yield (
            f"The images of {attack} as the attack made them",
            f"they were stored in {stored_in}, which may move a pixel by {tolerance:.2f}/255 and "
            f"undo part of the attack; {constants.get('moved_back_to_eps') or 0} of them lay "
            "beyond ε by that and were moved back to it",
        )
    if scores.audit is not None and scores.audit.leaves_open:
        bound = scores.audit.overall
        yield (
            f"Part of {attack}",
            f"FAB and Square attacked {bound.sampled} of {bound.survivors} survivors; with 95 % "
            f"confidence at least {percent(bound.lower)} % of all images would have stood had they "
            "attacked all",
        )


def _record(card: Scorecard, manifest: Mapping[str, Any], unknown: Sequence[str]) -> _Gaps:
    if manifest.get("engine") == "imported":
        yield (
            "How the attacks were run",
            "the predictions were imported: the attacks' constants, device, precision and code are "
            "those of another tool and are known only as far as stated; versions and commit below "
            "are those of the program that imported them",
        )
    if unknown:
        yield "Facts the record does not hold", ", ".join(unknown)
    if card.seed is not None:
        yield (
            "Other random starts",
            f"one seed ({card.seed}); another may break a few images more",
        )
