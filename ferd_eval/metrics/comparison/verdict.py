"""The one sentence that a comparison ends in: exactly one of seven verdicts, for any outcome."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ferd_eval.metrics.comparison.delta import Delta

#: What the average may lose before a gain of the lowest class counts as paid for, a fraction.
MARGIN = 0.01


class Verdict(StrEnum):
    """How the second network stands to the first."""

    DOMINATES = "dominates"
    FAIRER = "fairer at no average cost"
    LEVELS_DOWN = "fairer by levelling down"
    STRONGER = "stronger, not fairer"
    WEAKER = "weaker"
    MIXED = "mixed"
    INDISTINGUISHABLE = "indistinguishable"


def verdict(
    average: Delta,
    lowest: Delta,
    class_deltas: Sequence[float],
    *,
    better: int,
    worse: int,
    margin: float = MARGIN,
) -> Verdict:
    """Decide, in this order; what is shown is shown by the end of a two-sided 95 % interval.

    1. *dominates*: some class is significantly better and none is lower, not even in the sample;
    2. *fairer at no average cost*: the lowest class (or k classes) is shown to be higher, and the
       average is shown to lose less than `margin`;
    3. *fairer by levelling down*: the former, but such a loss on average is not excluded;
    4. *stronger, not fairer*: the average is shown to be higher;
    5. *weaker*: the average is shown to be lower;
    6. *mixed*: some classes are significantly better, and some worse or the lowest class is shown
       to be lower;
    7. *stronger, not fairer* or *weaker*: only better, or only worse; *weaker* too where only the
       lowest class is shown to be lower;
    8. *indistinguishable*: none of these.

    Args:
        average, lowest: differences, second − first, of the average and of the lowest class, or of
            the mean of the lowest k %.
        class_deltas: the difference of each class that has images.
        better, worse: the number of classes that differ significantly, after Holm.
    """
    if better and not worse and min(class_deltas, default=0.0) >= 0:
        return Verdict.DOMINATES
    if lowest.above_zero:
        cheap = average.interval95 is not None and average.interval95[0] > -margin
        return Verdict.FAIRER if cheap else Verdict.LEVELS_DOWN
    if average.above_zero:
        return Verdict.STRONGER
    if average.below_zero:
        return Verdict.WEAKER
    if better and (worse or lowest.below_zero):
        return Verdict.MIXED
    if better:
        return Verdict.STRONGER
    if worse or lowest.below_zero:
        return Verdict.WEAKER
    return Verdict.INDISTINGUISHABLE
