"""Whether several runs met the same attack: its constants, as their manifests record them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferd_eval.outcomes import Outcomes


@dataclass(frozen=True)
class Mismatch:
    """A constant that one run's attack had otherwise than the first run's.

    Attributes:
        place: of the other run.
        here, there: the value in the first run and in the other; None where not recorded.
    """

    place: int
    constant: str
    here: Any
    there: Any


def mismatch(runs: Sequence[Outcomes], attack: str) -> Mismatch | None:
    """Return the first constant in which a run differs from the first; None if none does.

    What only one of two runs records counts as different, except where one was imported: what its
    attack was beside ε, nobody knows (`unknown_constants`).
    """
    first = runs[0]
    for place, other in enumerate(runs[1:], start=1):
        ours, theirs = (_constants(run, attack) for run in (first, other))
        known = {*ours} & {*theirs} if _imported(first) or _imported(other) else {*ours, *theirs}
        for name in (each for each in {**ours, **theirs} if each in known):
            if not _same(ours.get(name), theirs.get(name)):
                return Mismatch(place, name, ours.get(name), theirs.get(name))
    return None


def unknown_constants(runs: Sequence[Outcomes], attack: str) -> tuple[str, ...]:
    """Constants that some of the runs do not record, and others do."""
    recorded = [_constants(run, attack) for run in runs]
    names = dict.fromkeys(name for each in recorded for name in each)
    return tuple(name for name in names if not all(name in each for each in recorded))


def _constants(run: Outcomes, attack: str) -> Mapping[str, Any]:
    """Without those that only repeat another as text."""
    constants = run.manifest["attacks"].get(attack) or {}
    return {
        name: value
        for name, value in constants.items()
        if value is not None and name.removesuffix("_text") not in {*constants} - {name}
    }


def _imported(run: Outcomes) -> bool:
    return bool(run.manifest.get("engine") == "imported")


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= 1e-9 * max(abs(ours), abs(theirs))
    return bool(ours == theirs)
