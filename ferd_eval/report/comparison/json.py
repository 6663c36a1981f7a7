"""``compare.json``: everything measured, in full precision, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ferd_eval._version import __version__
from ferd_eval.report.comparison.build import ComparisonView
from ferd_eval.report.comparison.model import Contest, Contestant


def record(contest: Contest, view: ComparisonView) -> Mapping[str, Any]:
    """The comparison as a program reads it; differences are second − first, fractions."""
    reference = contest.reference
    return {
        "ferd_eval": __version__,
        "verdict": view.verdict,
        "headline": view.headline,
        "sentences": view.sentences,
        "warnings": contest.warnings,
        "first": _contestant(contest.first),
        "second": _contestant(contest.second),
        "attack": contest.attack,
        "constants": contest.constants,
        "paired": {
            "images": True,
            "seeds": contest.by_seed,
            "said": contest.pairing,
        },
        "comparison": asdict(contest.comparison),
        "by_attack": {attack: asdict(found) for attack, found in contest.by_attack.items()},
        "reference": None
        if reference is None
        else {
            **_contestant(reference.contestant),
            "note": reference.note,
            "to_first": asdict(reference.to_first),
            "to_second": asdict(reference.to_second),
        },
    }


def _contestant(side: Contestant) -> dict[str, Any]:
    seeds = side.seeds or [None] * len(side.folders)
    return {
        "name": side.name,
        "runs": [
            {
                "folder": folder,
                "checkpoint": manifest.get("checkpoint"),
                "training_seed": seed,
                "attack_seed": manifest.get("seed"),
                "engine": manifest.get("engine"),
                "dataset": {
                    key: manifest["dataset"].get(key)
                    for key in ("name", "n", "selection", "fingerprint")
                },
            }
            for folder, manifest, seed in zip(side.folders, side.manifests, seeds, strict=True)
        ],
    }
