"""What a comparison's report is made of: who, under which attack, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferd_eval.metrics import Comparison


@dataclass(frozen=True, eq=False)
class Contestant:
    """One side: a checkpoint, or a method by its networks of several training seeds.

    Attributes:
        folders: of its runs; `manifests` are theirs.
        seeds: the networks were trained with; None where unknown.
    """

    name: str
    folders: tuple[str, ...]
    manifests: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Reference:
    """A third network or method, and how both sides stand to it.

    Attributes:
        to_first, to_second: differences, the side − the reference.
        note: what was paired, and what was taken as given.
    """

    contestant: Contestant
    to_first: Comparison
    to_second: Comparison
    note: str


@dataclass(frozen=True, eq=False)
class Contest:
    """Two sides on the same images.

    Attributes:
        attack: what the verdict is about.
        by_attack: the comparison under every attack that both met with the same constants.
        by_seed: whether differences were taken seed by seed; `pairing` says why.
        warnings: of the runs, and of what could not be held equal.
    """

    first: Contestant
    second: Contestant
    attack: str
    by_attack: Mapping[str, Comparison]
    by_seed: bool
    pairing: str
    warnings: tuple[str, ...]
    reference: Reference | None = None

    @property
    def comparison(self) -> Comparison:
        """Under the attack of the verdict."""
        return self.by_attack[self.attack]

    @property
    def constants(self) -> Mapping[str, Any]:
        """Of the attack of the verdict."""
        constants: Mapping[str, Any] = self.first.manifests[0]["attacks"].get(self.attack) or {}
        return constants
