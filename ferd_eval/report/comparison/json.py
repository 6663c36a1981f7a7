"""``compare.json``: every difference in full precision, and the runs behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ferd_eval._version import __version__
from ferd_eval.report.comparison.model import ComparisonReport
from ferd_eval.report.comparison.text import headline, sentences
from ferd_eval.results.run_group import RunGroup


def record(report: ComparisonReport) -> Mapping[str, Any]:
    """The comparison for a program; differences are second − first, fractions."""
    reference = report.reference
    return {
        "ferd_eval": __version__,
        "verdict": str(report.comparison.verdict),
        "headline": headline(report),
        "sentences": sentences(report),
        "warnings": report.warnings,
        "first": _group(report.first),
        "second": _group(report.second),
        "attack": report.attack,
        "constants": report.constants,
        "paired": {"images": True, "seeds": report.by_seed, "said": report.pairing},
        "comparison": asdict(report.comparison),
        "by_attack": {attack: asdict(found) for attack, found in report.by_attack.items()},
        "reference": reference
        and {
            **_group(reference.group),
            "note": reference.note,
            "to_first": asdict(reference.to_first),
            "to_second": asdict(reference.to_second),
        },
    }


def _group(group: RunGroup) -> dict[str, Any]:
    seeds = group.recorded_seeds or [None] * len(group.runs)
    manifests = [run.manifest for run in group.runs]
    return {
        "name": group.name,
        "runs": [
            {
                "folder": str(folder),
                "checkpoint": manifest.get("checkpoint"),
                "training_seed": seed,
                "attack_seed": manifest.get("seed"),
                "engine": manifest.get("engine"),
                "dataset": {
                    key: manifest["dataset"].get(key)
                    for key in ("name", "n", "selection", "fingerprint")
                },
            }
            for folder, manifest, seed in zip(group.folders, manifests, seeds, strict=True)
        ],
    }
