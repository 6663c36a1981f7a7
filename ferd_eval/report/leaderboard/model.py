"""What a leaderboard ranks: a network, or a method by its networks of several training seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ferd_eval.metrics import Scorecard
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_group import RunGroup


@dataclass(frozen=True, eq=False)
class ScoredGroup(RunGroup):
    """A row of a leaderboard: runs with the scorecard of each."""

    cards: tuple[Scorecard, ...]

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


#: Constants that say the same as another, for print.
_FOR_PRINT = ("eps_text", "step_size_text")


def variants(
    constants: Mapping[int, Mapping[str, Any]],
) -> list[tuple[dict[str, Any], list[int]]]:
    """Group places by constants that do not contradict each other.

    What a record lacks, it may have.

    Args:
        constants: place of an entry → what its attack ran with.

    Returns:
        The constants of each group, and its places, in order of the first of them.
    """
    found: list[tuple[dict[str, Any], list[int]]] = []
    known = {i: _known(those) for i, those in constants.items()}
    for i in sorted(known, key=lambda i: (-len(known[i]), i)):
        for together, members in found:
            if all(together.get(name, value) == value for name, value in known[i].items()):
                together |= known[i] | together
                members.append(i)
                break
        else:
            found.append((dict(known[i]), [i]))
    for _, members in found:
        members.sort()
    return sorted(found, key=lambda item: item[1][0])


def _known(constants: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in constants.items() if value is not None}


def apart(constants: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> str:
    """What sets these constants apart from the others of the attack."""
    differing = [
        name
        for name in dict.fromkeys(name for each in all_of_them for name in each)
        if name not in _FOR_PRINT
        and len({str(each[name]) for each in all_of_them if name in each}) > 1
    ]
    return ", ".join(
        f"{'ε' if name == 'eps' else name.replace('_', ' ')} "
        f"{constants.get(f'{name}_text', constants[name])}"
        for name in differing
        if name in constants
    )
