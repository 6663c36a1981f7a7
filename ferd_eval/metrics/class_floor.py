"""The lower limit of each class, of which the 95 % floor is the lowest."""

from __future__ import annotations

from ferd_eval.metrics.interval import clopper_pearson_lower
from ferd_eval.metrics.scorecard import AttackScores, ClassScore


def class_floors(scores: AttackScores) -> tuple[float | None, ...]:
    """One-sided 95 % lower limit of each class by itself; None without images.

    Where part of the attack saw only a sample the limit allows for what that may have missed.
    """
    if scores.audit is not None:
        return tuple(each.floor95 for each in scores.audit.per_class)
    return tuple(map(_limit, scores.per_class))


def _limit(each: ClassScore) -> float | None:
    if each.accuracy is None:
        return None
    return float(clopper_pearson_lower(round(each.accuracy * each.n), each.n))
