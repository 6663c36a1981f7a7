"""The audit appendix: measurements, their means, gaps, and the questions they are evidence for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferd_eval.attacks.registry import BLACK_BOX, WHITE_BOX, access_of
from ferd_eval.errors import listed
from ferd_eval.io.files import write_texts
from ferd_eval.io.json import to_json
from ferd_eval.metrics import AttackScores, Scorecard, TargetedSuccess
from ferd_eval.metrics.figures import WORST_CLASS, board_figures
from ferd_eval.report import render
from ferd_eval.report.audit.crosswalk import crosswalk
from ferd_eval.report.audit.not_measured import epsilons, unmeasured
from ferd_eval.report.format import NOTHING, Cell, Table, percent, ratio, span, whole
from ferd_eval.report.run.model import Run
from ferd_eval.report.run.provenance import constants_table, cost_table
from ferd_eval.report.run.text import headline_attack
from ferd_eval.results.attack_id import family_of
from ferd_eval.results.digests import digests, write_sums, writer
from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import SUMS

NO_ADVICE = (
    "This appendix collects evidence. It is no legal advice and no conformity assessment, and no "
    "figure in it says that a system meets a requirement."
)

#: Facts that identify a run: label → place in its record. Absent ones are listed as unknown.
IDENTITY: Mapping[str, str] = {
    "Checkpoint": "checkpoint.name",
    "Checkpoint file": "checkpoint.path",
    "Checkpoint SHA-256": "checkpoint.sha256",
    "Architecture": "model.architecture",
    "Parameters": "model.parameters",
    "Data set": "dataset.name",
    "Data set source": "dataset.source",
    "Data set fingerprint (SHA-256)": "dataset.fingerprint",
    "Images scored": "dataset.n",
    "Selection of images": "dataset.selection",
    "Seed": "seed",
    "Engine": "engine",
    "Precision": "precision.dtype",
    "TF32": "precision.tf32",
    "Device": "device.name",
    "Kind of device": "device.kind",
    "Code commit": "code.commit",
    "Code changed since that commit": "code.dirty",
    "ferd_eval": "ferd_eval",
    "Python": "python",
    "Platform": "platform",
    "Packages": "packages",
    "Command": "command",
    "Started": "started",
    "Finished": "finished",
    "Status": "status",
}

#: Facts that only some runs have: shown where recorded, never listed as unknown.
_OPTIONAL: Mapping[str, str] = {
    "Network in the checkpoint": "checkpoint.key",
    "Normalisation": "model.normalization",
    "Own network, SHA-256 of its code": "model.model_file_sha256",
    "Own attack, SHA-256 of its code": "attack_file_sha256",
    "Imported from": "source",
    "Precision of searches": "search.precision",
}

_LIMITS = (
    "Attacks find failures; they cannot show that there are none. Accuracy under attack bounds "
    "true robustness from above: a stronger attack can only lower it.",
    "Intervals say how sure a figure is for images drawn like these. They say nothing of other "
    "images, other attacks or another training.",
    "The lowest class of a sample is picked after the fact and tends to look worse than it is; the "
    "95 % floor and the classes that could be the worst allow for that.",
    "No figure is a guarantee for a single image.",
    "The figures belong to this one checkpoint, not to the method that trained it.",
)


@dataclass(frozen=True)
class Section:
    """A heading and its content, in this order."""

    title: str
    text: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def write_appendix(folder: Path, run: Run) -> tuple[Path, ...]:
    """Write ``audit.md``, ``audit.html`` and ``audit.json`` of one run into its folder.

    Returns:
        The files of the appendix.

    Raises:
        UserError: the folder cannot be written.
    """
    files = digests(folder)
    contents = appendix_pages(run, files)
    (folder / SUMS).unlink(missing_ok=True)
    written = write_texts(folder, contents)
    write_sums(folder, {name: each for name, each in files.items() if name not in contents})
    return written


def appendix_pages(run: Run, files: Mapping[str, str]) -> dict[str, str]:
    """The appendix of one run: file → content.

    Args:
        files: file of the run → SHA-256; the appendix itself is left out.
    """
    files = {name: digest for name, digest in files.items() if not name.startswith("audit.")}
    sections, data = _content(run, files)
    of: dict[str, Any] = {"title": f"Audit appendix: {run.name}", "sections": sections}
    return {
        "audit.md": render.text("audit.md.j2", **of),
        "audit.html": render.page("audit.html.j2", styles=("report.css",), **of),
        "audit.json": to_json(data),
    }


def _content(run: Run, files: Mapping[str, str]) -> tuple[list[Section], Mapping[str, Any]]:
    """What Markdown and HTML print, and the same for programs, in plain JSON types."""
    card, manifest = run.scorecard, run.manifest
    places = {**IDENTITY, **_OPTIONAL}
    facts = {label: look_up(manifest, path) for label, path in places.items()}
    unknown = [label for label in IDENTITY if facts[label] in (None, "", [], {})]
    threat = threat_model(card, manifest)
    gaps = list(unmeasured(card, manifest, unknown))
    crossings = crosswalk(card, headline_attack(run), len(gaps), unknown)
    constants = {attack: scores.constants for attack, scores in card.attacks.items()}
    n_K = {each.name: each.n for each in next(iter(card.attacks.values())).per_class}
    images = {
        "Scored": sum(n_K.values()),
        "Classes": len(n_K),
        "Fewest of a class": min(n_K.values()),
        "Most of a class": max(n_K.values()),
    }
    identity = (
        {"What": label, "Value": "not recorded" if label in unknown else fact_text(value)}
        for label, value in facts.items()
        if label in IDENTITY or value not in (None, "", [], {})
    )
    measured = [
        Table.of("Identity", identity),
        Table.of("Images", [{label: whole(count) for label, count in images.items()}]),
        cost_table(manifest),
    ]
    about_crosswalk = (
        "Which figures of this run are evidence for questions that frameworks ask, put in our own "
        "words. EU AI Act: Regulation (EU) 2024/1689, whose Article 15 is about high-risk systems. "
        f"{NO_ADVICE}"
    )
    crossed = Table(
        "Crosswalk",
        ("Framework", "Item", "What it asks", "Evidence in this run", "Leaves open"),
        tuple(tuple(row.values()) for row in crossings),
    )
    checks = [(check.name, check.status, check.statement) for check in card.trust.checks]
    trusted = tuple(f"{name} ({status}): {said}" for name, status, said in checks)
    missing = tuple(f"{what}: {detail.removesuffix('.')}." for what, detail in gaps)
    sections = [
        Section("What this is", (NO_ADVICE,)),
        Section("Threat model", (threat,), tables=(constants_table(constants),)),
        Section("What was measured", tables=tuple(filter(None, measured))),
        Section("Figures", tables=(_figures_table(card),)),
        *([_files_section(files)] if files else []),
        Section("Whether the attacks can be trusted", points=trusted),
        Section("What was not measured", points=missing),
        Section("Limits", points=_LIMITS),
        Section("Crosswalk", (about_crosswalk,), tables=(crossed,)),
    ]
    return sections, {
        "run": run.name,
        "written_by": writer(),
        "statement": NO_ADVICE,
        "threat_model": threat,
        "attacks": constants,
        "identity": {path: facts[label] for label, path in places.items()},
        "unknown": unknown,
        "images_per_class": n_K,
        "cost": manifest.get("cost") or {},
        "files": files,
        "figures": {attack: _figures(scores) for attack, scores in card.attacks.items()},
        "checks": [
            dict(zip(("name", "status", "statement"), each, strict=True)) for each in checks
        ],
        "not_measured": [{"what": what, "detail": detail} for what, detail in gaps],
        "limits": _LIMITS,
        "crosswalk": crossings,
    }


def _files_section(files: Mapping[str, str]) -> Section:
    rows = ({"File": name, "SHA-256": digest} for name, digest in files.items())
    said = (
        "The files of this run when this appendix was written. Checkpoint and data have their "
        f"digests under Identity. {SUMS} in the folder lists these files and this appendix: "
        f"sha256sum -c {SUMS} checks them, ferd-eval verify recomputes the figures, too."
    )
    return Section("Files", (said,), tables=(Table.of("Files", rows),))


def threat_model(card: Scorecard, manifest: Mapping[str, Any]) -> str:
    """The attacker: knowledge, means and aim, and the attacks that imitated them."""
    run = [attack for attack in card.attacks if attack != "clean"]
    if not run:
        return "No attack was run, so there is no threat model: the images were not changed."
    families = {attack: family_of(attack, card.attacks[attack].constants) for attack in run}
    recorded = [card.attacks[attack].constants.get("norm") for attack in run]
    norms = {str(each) for each in (*recorded, look_up(manifest, "threat.norm")) if each}
    known = {"linf": "L∞", "l2": "L2"}
    norm = " and ".join(known.get(each, each) for each in sorted(norms))
    eps = epsilons(card)
    budget = f"by at most ε = {', '.join(eps)}" if eps else "by an ε that is not recorded"
    aims = any(isinstance(card.attacks[attack].target, TargetedSuccess) for attack in run)
    goal = "any wrong class" + (" (targeted attacks: a class of their choice)" if aims else "")
    return (
        f"An attacker who {_knowledge(families, manifest)} changes every pixel of an image, its "
        f"values in [0, 1], {budget} ({norm or 'norm not recorded'}) and wants {goal}; imitated by "
        f"{', '.join(run)} with the constants below."
    )


def _knowledge(families: Mapping[str, str], manifest: Mapping[str, Any]) -> str:
    if manifest.get("engine") == "imported":
        return "knows what the other tool's attacks used, which is not recorded here,"
    access = {attack: access_of(family) for attack, family in families.items()}
    queries = [attack for attack, each in access.items() if each == (BLACK_BOX,)]
    others = [attack for attack, each in access.items() if not each]
    parts = []
    if any(WHITE_BOX in each for each in access.values()):
        parts.append("knows the network and its weights (white box)")
    if queries:
        parts.append(f"under {', '.join(queries)} sees only its outputs (black box)")
    if others:
        parts.append(f"under {', '.join(others)} knows what is not recorded here")
    return ", ".join(parts)


def fact_text(value: Any) -> str:
    """One fact of a record as text: nothing is rounded or cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {fact_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return shlex.join(value)
        return "; ".join(map(fact_text, value))
    return str(value)


def _figures_table(card: Scorecard) -> Table:
    rows: list[dict[str, Cell]] = []
    for attack, scores in card.attacks.items():
        worst = scores.worst_class
        rows.append(
            {
                "Attack": attack,
                "Images": whole(scores.n),
                "Average": percent(scores.average),
                "95 % interval": str(span(scores.average95)),
                "Lowest class": worst.name if worst else NOTHING,
                "Its accuracy": percent(worst.accuracy if worst else None),
                "True lowest, 95 %": str(span(scores.worst_class95)),
                "95 % floor": percent(scores.floor95),
                "NSD": ratio(scores.nsd),
                "Could be the worst": listed(_suspects(scores)) or NOTHING,
            }
        )
    return Table.of(
        "Figures",
        rows,
        "Accuracy in per cent. True lowest: an interval for the accuracy of the class that truly "
        "is lowest, whichever it is. 95 % floor: with 95 % confidence every class is at least this "
        "accurate under the attack. Could be the worst: the classes that cannot be excluded as the "
        "lowest, with 95 % confidence.",
    )


def _figures(scores: AttackScores) -> dict[str, Any]:
    worst = scores.worst_class
    found: dict[str, Any] = {"n": scores.n, WORST_CLASS.key: worst.name if worst else None}
    for figure in board_figures().values():
        key = f"{figure.key}_accuracy" if figure is WORST_CLASS else figure.key
        found[key] = scores.figures[figure.key]
        if figure.interval:
            found[figure.interval_key] = scores.intervals[figure.interval_key]
    return found | {"possibly_worst": None if scores.possibly_worst is None else _suspects(scores)}


def _suspects(scores: AttackScores) -> list[str]:
    return [scores.per_class[k].name for k in scores.possibly_worst or ()]
