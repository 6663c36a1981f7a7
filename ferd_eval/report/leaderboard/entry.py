"""What a leaderboard ranks: a network, or a method by its networks of several training seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ferd_eval.metrics import Contestant, Scorecard
from ferd_eval.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Entry:
    """One row to be.

    Attributes:
        runs, cards: one for each training seed.
        seeds: of training; None where unknown.
    """

    name: str
    runs: tuple[Outcomes, ...]
    cards: tuple[Scorecard, ...]
    seeds: tuple[int | None, ...]

    @property
    def contestant(self) -> Contestant:
        """As `ferd_eval.metrics.Standing` takes it."""
        return Contestant(self.runs, self.seeds)

    @property
    def attacks(self) -> tuple[str, ...]:
        """Attacks that all its runs met."""
        first, *others = self.runs
        return tuple(a for a in first.attacks if all(a in other.attacks for other in others))

    def constants(self, attack: str) -> Mapping[str, Any]:
        """What the attack ran with."""
        return self.cards[0].attacks[attack].constants

    @cached_property
    def images(self) -> tuple[str, ...]:
        """What was attacked: equal for two entries only if they met the same images and ball."""
        return images_of(self.runs[0])


def images_of(run: Outcomes) -> tuple[str, ...]:
    """Data set, classes, images scored and ε, as one key."""
    data = run.manifest["dataset"]
    rows = run.table[["index", "label"]].drop_duplicates().sort_values(["index", "label"])
    digest = hashlib.sha256(rows.to_numpy(dtype="int64").tobytes())
    digest.update("\0".join(run.class_names).encode())
    eps = (run.manifest.get("threat") or {}).get("eps")
    return (
        str(data.get("name") or ""),
        str(data.get("fingerprint") or ""),
        digest.hexdigest(),
        "" if eps is None else f"{eps:.9g}",
    )
