"""The literature behind a run, as BibTeX: what its attacks, data and figures name in registries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from ferd_eval.attacks.registry import ENGINES, PRESETS
from ferd_eval.io.escape import one_line
from ferd_eval.metrics.figures import board_figures
from ferd_eval.results.attack_id import preset_of


def bibtex(manifests: Sequence[Mapping[str, Any]], datasets: Mapping[str, tuple[str, ...]]) -> str:
    """One entry for each work, under a line that says for what; what has none is listed last.

    Args:
        manifests: of the runs.
        datasets: name → keys of its entries, as registered.
    """
    reasons: dict[str, list[str]] = {}
    without = []
    for reason, keys in dict(_used(manifests, datasets)).items():
        if keys is None:
            without.append(reason)
        for key in keys or ():
            reasons.setdefault(key, []).append(reason)
    found = [f"% {', '.join(why)}\n{references()[key]}\n" for key, why in reasons.items()]
    if without:
        found.append(f"% No reference is registered for: {', '.join(without)}.\n")
    return "\n".join(found)


@cache
def references() -> Mapping[str, str]:
    """Key → entry of ``references.bib``, as it stands there."""
    text = (resources.files("ferd_eval.report") / "references.bib").read_text(encoding="utf-8")
    return {
        found[1]: found[0]
        for found in re.finditer(r"^@\w+\{(\w+),\n.*?^\}$", text, re.MULTILINE | re.DOTALL)
    }


def _used(
    manifests: Sequence[Mapping[str, Any]], datasets: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """What the runs used, with its keys; None where it is not registered, as a user's own."""
    for manifest in manifests:
        for attack in map(preset_of, manifest["attacks"]):
            known = PRESETS.get(attack)
            yield f"attack {_plain(attack)}", known.cite if known else None
        engine = str(manifest.get("engine"))
        if ENGINES.get(engine):
            yield f"engine {engine}", ENGINES[engine]
        data = manifest["dataset"]
        name = str(data.get("name") or "without a name")
        yield f"data set {_plain(name)}", datasets.get(name)
        for figure in board_figures(len(data["class_names"])).values():
            yield figure.heading.replace("%", "per cent"), figure.cite


def _plain(name: str) -> str:
    """A name from a file, without the sign that begins an entry even in a comment of BibTeX."""
    return one_line(name).replace("@", " at ")
