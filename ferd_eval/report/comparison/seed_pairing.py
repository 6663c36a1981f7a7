"""Pairs two methods by training seed where their records allow it. No torch on this path."""

from __future__ import annotations

from dataclasses import dataclass

from ferd_eval.errors import UserError, listed
from ferd_eval.results.run_group import RunGroup


@dataclass(frozen=True, eq=False)
class SeedPairs:
    """Two sides, their runs in matching order where they are pairs.

    Attributes:
        by_seed: whether they are.
        said: that, and why, in a sentence.
    """

    first: RunGroup
    second: RunGroup
    by_seed: bool
    said: str


def pair_seeds(first: RunGroup, second: RunGroup, asked: bool | None) -> SeedPairs:
    """Pair networks of the same training seed and the same teacher.

    Args:
        first: a method's runs.
        second: another's.
        asked: True pairs whatever is recorded (by seed where both sides have the same seeds, else
            in the order given), False pairs nothing, None decides by what the runs record.

    Raises:
        UserError: pairs are asked for and the sides have different numbers of runs.
    """
    if asked is False:
        return _apart(first, second, "as asked for by --no-pair-seeds")
    if asked and len(first.runs) != len(second.runs):
        raise UserError(
            f"--pair-seeds needs as many runs on both sides; {first.name} has {len(first.runs)}, "
            f"{second.name} {len(second.runs)}. Give those of the same seeds, or --no-pair-seeds."
        )
    ours, theirs = first.recorded_seeds or (), second.recorded_seeds or ()
    if ours and len({*ours}) == len(ours) and sorted(ours) == sorted(theirs):
        ordered = second.in_order([theirs.index(seed) for seed in ours])
        if not asked and ordered.teachers != first.teachers:
            return _apart(first, second, "the teachers are not the same")
        seeds = listed(tuple(map(str, ours)))
        said = f"Differences are taken seed by seed (training seeds {seeds})."
        return SeedPairs(first, ordered, True, said)
    if asked:
        said = "Differences are taken run by run in the order given, as asked for by --pair-seeds."
        return SeedPairs(first, second, True, said)
    for side, recorded in ((first, ours), (second, theirs)):
        if not recorded:
            reason = (
                f"the runs of {side.name} do not record their training seeds; --pair-seeds pairs "
                "them in the order given"
            )
            return _apart(first, second, reason)
    listed_ours, listed_theirs = (", ".join(map(str, recorded)) for recorded in (ours, theirs))
    reason = (
        f"the training seeds are {listed_ours} of {first.name} and {listed_theirs} of {second.name}"
    )
    return _apart(first, second, reason)


def _apart(first: RunGroup, second: RunGroup, reason: str) -> SeedPairs:
    said = (
        f"The two sides' seeds count as independent ({reason}): a Welch-like interval with the "
        "degrees of freedom of the side with fewer seeds."
    )
    return SeedPairs(first, second, False, said)
