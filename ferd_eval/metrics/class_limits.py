"""The lower limit of each class, of which the 95 % floor is the lowest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError
from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.intervals import clopper_pearson_lower
from ferd_eval.metrics.per_class import by_class
from ferd_eval.metrics.sanity.audit import audit, most_hidden_simple
from ferd_eval.metrics.scores import AttackScores
from ferd_eval.results.outcomes import Outcomes


def class_floors(scores: AttackScores) -> tuple[float | None, ...]:
    """One-sided 95 % lower limit of each class by itself; None without images.

    Where part of the attack saw only a sample the limit allows for what that may have missed.
    """
    if scores.audit is not None:
        return tuple(each.floor95 for each in scores.audit.per_class)
    return tuple(
        None
        if each.accuracy is None
        else float(clopper_pearson_lower(round(each.accuracy * each.n), each.n))
        for each in scores.per_class
    )


@dataclass(frozen=True)
class ClassDrop:
    """What one class loses; fractions, None without images."""

    index: int
    name: str
    n: int
    drop: float | None  #: clean accuracy − accuracy under the attack, on the same images
    at_most: float | None  #: one-sided upper limit of the drop, of this class by itself


def class_drops(outcomes: Outcomes, attack: str, confidence: float = 0.95) -> tuple[ClassDrop, ...]:
    """The drop of each class from clean images to an attack, with its upper limit.

    "No class loses more than d" is shown when every class's own limit is d or less: it is rejected
    only if some class can lose more, so the limits need no correction for many classes
    (intersection–union, Berger 1982). They are exact: `Paired.gap_at_most`. Where part of an attack
    saw only a sample, half of the level goes to the images that may hide behind it.

    Raises:
        UserError: clean predictions are missing, for all images or for some.
    """
    attacked = outcomes.of(attack)["index"].nunique()
    pair = Paired.of(outcomes, "clean", attack)
    if int(pair.n_K.sum()) < attacked:
        raise UserError(
            f"{attacked - int(pair.n_K.sum())} of {attacked} images have no clean prediction, so "
            "what is lost to the attack is unknown. Score or import the clean images too."
        )
    level, drop_K = 1 - confidence, pair.gap()
    audited = (outcomes.manifest.get("audits") or {}).get(attack)
    if audited is not None:
        level /= 2
        pair = _had_all_hidden_fallen(pair, _hidden(outcomes, attack, audited, level))
    names = outcomes.class_names
    return by_class(ClassDrop, names, n=pair.n_K, drop=drop_K, at_most=pair.gap_at_most(level))


def _hidden(outcomes: Outcomes, attack: str, audited: list[int], level: float) -> NDArray[np.int64]:
    """How many of each class's images may have fallen, had the audit attacked them."""
    bounds = audit(outcomes.of(attack), audited, len(outcomes.class_names)).per_class
    return np.array(
        [most_hidden_simple(each.survivors, each.sampled, each.broken, level) for each in bounds]
    )


def _had_all_hidden_fallen(pair: Paired, hidden_K: NDArray[np.int64]) -> Paired:
    """Survivors are right on clean images too: a cascade leaves the others alone."""
    return Paired(
        pair.n_K, pair.both_K - hidden_K, pair.first_only_K + hidden_K, pair.second_only_K
    )
