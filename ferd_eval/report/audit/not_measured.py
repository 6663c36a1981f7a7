"""What a run did not measure, as far as its record tells: a list to read before any figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferd_eval.errors import listed
from ferd_eval.metrics import Scorecard, TargetedSuccess
from ferd_eval.report.format import percent, whole
from ferd_eval.results.attack_id import eps_of, family_of
from ferd_eval.results.manifest import look_up

#: Attacks of this package that a thorough run holds: family → what it would add.
_USUAL = {
    "fgsm": "FGSM, the sign of masked gradients when it beats PGD",
    "pgd": "PGD-20",
    "cw": "CW∞, the margin loss",
    "aa": "AutoAttack, the strongest attack here",
}

#: Families that contain a search without gradients.
_BLACK_BOX = frozenset({"aa", "aa-audited", "square", "aa-torchattacks"})


@dataclass(frozen=True)
class Gap:
    """Something that was not measured, and what that means here."""

    what: str
    detail: str


def unmeasured(card: Scorecard, manifest: Mapping[str, Any], unknown: Sequence[str]) -> list[Gap]:
    """List it: what follows from this run first, what no run of this package measures last.

    Args:
        unknown: facts of how the run came about that its record does not tell.
    """
    return [
        *_images(card, manifest),
        *_attacks(card),
        *_checks(card),
        *_record(card, manifest, unknown),
        *_never(card),
    ]


def epsilons(card: Scorecard) -> list[str]:
    """ε of the attacks that ran, as printed, smallest first."""
    found: dict[float, str] = {}
    for attack, scores in card.attacks.items():
        eps = eps_of(attack, scores.constants)
        if eps is not None and eps > 0:
            found.setdefault(eps, str(scores.constants.get("eps_text") or f"{eps:.4g}"))
    return [found[eps] for eps in sorted(found)]


def _images(card: Scorecard, manifest: Mapping[str, Any]) -> Iterator[Gap]:
    selection = card.dataset.get("selection")
    n = whole(next(iter(card.attacks.values())).n)
    if selection is None:
        yield Gap(
            "Images that were not scored",
            f"{n} images were scored; whether the data set has more was not recorded",
        )
    elif selection != "all":
        yield Gap(
            "Images that were not scored",
            f"only a part of the data set was taken: {selection} ({n} images in all); the rest of "
            "it was not looked at",
        )
    first = next(iter(card.attacks.values()))
    empty = [each.name for each in first.per_class if each.n == 0]
    if empty:
        yield Gap("Classes without images", f"nothing is known of {listed(empty)}")
    if look_up(manifest, "status") not in (None, "finished"):
        yield Gap("The rest of the run", "it was not finished when this was written")


def _attacks(card: Scorecard) -> Iterator[Gap]:
    families = {family_of(attack, scores.constants) for attack, scores in card.attacks.items()}
    missing = [
        said
        for family, said in _USUAL.items()
        if family not in families and not (family == "aa" and "aa-audited" in families)
    ]
    if missing:
        yield Gap("Attacks that were not run", "; ".join(missing))
    if families == {"clean"}:
        yield Gap("Robustness", "nothing was attacked, so no figure here is evidence of it")
    for attack, scores in card.attacks.items():
        if stored_in := scores.constants.get("stored_in"):
            yield Gap(
                f"The images of {attack} as the attack made them",
                f"they were stored in {stored_in}, which may move a pixel by "
                f"{255 * float(scores.constants.get('rounding_tolerance') or 0):.2f}/255 and undo "
                f"part of the attack; {scores.constants.get('moved_back_to_eps') or 0} of them lay "
                "beyond ε by that and were moved back to it",
            )
        if scores.audit is not None and scores.audit.leaves_open:
            bound = scores.audit.overall
            yield Gap(
                f"Part of {attack}",
                f"FAB and Square attacked {whole(bound.sampled)} of {whole(bound.survivors)} "
                f"survivors; with 95 % confidence at least {percent(bound.lower)} % of all images "
                "would have stood had they attacked all",
            )
    if not any(isinstance(scores.target, TargetedSuccess) for scores in card.attacks.values()):
        yield Gap(
            "Which class an attacker can reach",
            "no attack aimed at chosen classes (--attacks clean,targeted)",
        )
    known = epsilons(card)
    nothing = (
        "no change was tried" if families == {"clean"} else "the ε that was tried is not known"
    )
    yield Gap(
        "Other sizes of change", f"only ε = {', '.join(known)} was tried" if known else nothing
    )
    yield Gap(
        "Other norms",
        "changes measured in L2, L1 or L0, such as faint noise over the whole image or a few "
        "pixels changed at will",
    )
    yield Gap(
        "Attacks made for this network",
        "all attacks are general ones; one that knows how this network was defended may find more "
        "(adaptive attacks)",
    )
    yield Gap(
        "Attackers who do not know the weights",
        ("beyond Square's queries, " if families & _BLACK_BOX else "")
        + "images transferred from other networks, and searches by queries alone",
    )


def _checks(card: Scorecard) -> Iterator[Gap]:
    for check in card.trust.checks:
        if check.status == "not measured":
            yield Gap(f"Check “{check.name}”", check.statement)


def _record(card: Scorecard, manifest: Mapping[str, Any], unknown: Sequence[str]) -> Iterator[Gap]:
    if manifest.get("engine") == "imported":
        yield Gap(
            "How the attacks were run",
            "the predictions were imported: the attacks' constants, device, precision and code are "
            "those of another tool and are known only as far as stated; versions and commit below "
            "are those of the program that imported them",
        )
    if unknown:
        yield Gap("Facts the record does not hold", ", ".join(unknown))
    if card.seed is not None:
        yield Gap(
            "Other random starts", f"one seed ({card.seed}); another may break a few images more"
        )


def _never(card: Scorecard) -> Iterator[Gap]:
    yield Gap(
        "Other trainings of the same method",
        "this is one checkpoint; how much a method's figures vary from training to training needs "
        "several",
    )
    yield Gap(
        "Training data",
        "whether these images, or near copies, were trained on; bias and errors in labels",
    )
    groups = (
        f"classes and these groupings of classes: {listed(list(card.groups))}"
        if card.groups
        else "classes"
    )
    yield Gap(
        "Groups of people, places or devices",
        f"figures are split by {groups}, not by who or what is in the image",
    )
    yield Gap(
        "Corruptions and natural shift",
        "noise, blur, weather, compression, rotation, patches, other cameras, other times",
    )
    yield Gap("Poisoning and backdoors", "changes of the training data or of the weights")
    yield Gap("Privacy and confidentiality", "membership inference, inversion, stealing the model")
    yield Gap(
        "The system around the network",
        "preprocessing, other safeguards, people in the loop, feedback, change over time",
    )
