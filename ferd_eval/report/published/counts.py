"""Figures of one attack, computed anew from the counts of each class that a scorecard holds.

A published scorecard may state any figure. The pages print what the counts give, by the same code
for every run; a scorecard whose figures contradict its counts is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError
from ferd_eval.metrics import Scores
from ferd_eval.metrics.compute import lowered, scores_of_counts
from ferd_eval.metrics.figures import WORST_CLASS, published_figures
from ferd_eval.results.attack_id import eps_of
from ferd_eval.results.manifest import look_up
from ferd_eval.results.schema import Fields, number

#: What versions of numerical libraries may change of a figure.
_ROUNDING = 1e-6

#: Digits that versions of numerical libraries agree on; no printed figure turns on the others.
_DIGITS = 9


@dataclass(frozen=True, eq=False)
class PublishedAttack:
    """The figures of one attack, from the counts of each class.

    Attributes:
        attack: id as in the scorecard, such as ``pgd`` or ``pgd@2/255``.
        scores: without the digits on which numerical libraries disagree.
        is_open: whether part of the attack saw only a sample of the images.
    """

    attack: str
    constants: Mapping[str, Any]
    scores: Scores
    is_open: bool

    @property
    def eps(self) -> float | None:
        """Radius of the ball; None of clean images."""
        return None if self.is_clean else eps_of(self.attack, self.constants)

    @property
    def is_clean(self) -> bool:
        """Whether the images were not attacked."""
        return self.attack == "clean"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(each.n for each in self.scores.per_class)

    @property
    def accuracies(self) -> tuple[float | None, ...]:
        """Of each class; None without images."""
        return tuple(each.accuracy for each in self.scores.per_class)

    @property
    def lowest(self) -> tuple[str, ...]:
        """Names of the classes that share the lowest accuracy."""
        worst = self.scores.worst_class
        assert worst is not None, "counts without an image are refused"
        return self._names((worst.index, *worst.tied))

    @property
    def possibly_worst(self) -> tuple[str, ...] | None:
        """Classes that cannot be excluded as the lowest; None where part of the attack is open."""
        places = self.scores.possibly_worst
        return None if places is None else self._names(sorted(places))

    def _names(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.scores.per_class[i].name for i in places)


def stable(value: float) -> float:
    """Without the last digits, which versions of numerical libraries do not agree on."""
    return round(value, _DIGITS)


def read_attack(card: Fields, attack: str, class_names: Sequence[str]) -> PublishedAttack:
    """Read one attack of a scorecard.

    Raises:
        UserError: the counts are not there, or figures beside them contradict them.
    """
    where = f"{card.file}, {attack}"
    stated = Fields(where, _object(card.object("attacks").get(attack), where))
    per_class = stated.list("per_class")
    names = [each.get("name") if isinstance(each, Mapping) else None for each in per_class]
    if names != list(class_names):
        raise UserError(
            f"{where}: the classes are not those of the data set. Copy the file from the run again."
        )
    counts = []
    for each in per_class:
        n = _count(each.get("n"), 1.0, where)
        counts.append((n, _count(each.get("accuracy") if n else 0.0, float(n), where)))
    n_K, correct_K = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    if not n_K.any() or (correct_K < 0).any() or (correct_K > n_K).any():
        raise UserError(f"{where}: the counts are impossible. Copy the file from the run again.")
    constants = _object(stated.values.get("constants"), where)
    scores = scores_of_counts(n_K, correct_K, class_names)
    limits = _open_limits(stated, len(class_names))
    if limits is not None:
        scores = replace(scores, **lowered(vars(scores), limits))
    figures = {k: None if v is None else stable(v) for k, v in scores.figures.items()}
    intervals = {k: v and (stable(v[0]), stable(v[1])) for k, v in scores.intervals.items()}
    scores = replace(scores, figures=figures, intervals=intervals)
    found = PublishedAttack(attack, constants, scores, limits is not None)
    _require_agreement(found, stated)
    target = stated.values.get("target")
    if target is None or (isinstance(target, Mapping) and "sources" in target):
        _require_confusion(n_K, correct_K, class_names, stated)
    return found


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: figures or constants are missing. Copy the file again.")
    return value


def _count(value: Any, scale: float, where: str) -> int:
    """A count, given as such or as a share of `scale`."""
    found = number(value)
    if found is None or not abs(found) * scale < 2**53:
        raise UserError(f"{where}: a class lacks its count or accuracy. Copy the file again.")
    count = round(found * scale)
    if abs(found * scale - count) > 1e-6:
        raise UserError(
            f"{where}: accuracy {found:.6g} is not that of a whole number of {scale:.0f} images. "
            "Copy the file from the run again."
        )
    return count


def _open_limits(stated: Fields, num_classes: int) -> dict[str, float] | None:
    """`Figure.open_end` → the limit that allows for what an audit missed, 0 where it is not stated.

    None where the whole attack saw all images.
    """
    if not isinstance(stated.values.get("audit"), Mapping):
        return None
    audit = Fields(stated.file, stated.object("audit"))
    sampled, survivors = (
        audit.whole_or_none(f"overall.{name}") for name in ("sampled", "survivors")
    )
    if sampled is not None and survivors is not None and sampled >= survivors:
        return None
    classes = audit.list("per_class")

    def least(name: str) -> float:
        ends = [number(look_up(each, name)) for each in classes]
        known = [end for end in ends if end is not None]
        return max(min(known), 0.0) if known and len(classes) == num_classes else 0.0

    average = number(look_up(audit.values, "overall.low95")) or 0.0
    return {"average": max(average, 0.0), "lowest": least("low95"), "floor": least("floor95")}


def _require_agreement(found: PublishedAttack, stated: Fields) -> None:
    """Refuse a scorecard that states other figures than its counts give; name the first."""
    file, values, scores = stated.file, stated.values, found.scores
    worst = _object(values.get(WORST_CLASS.key), file)
    if worst.get("name") not in found.lowest:
        raise _contradiction(f"{WORST_CLASS.key}.name", worst.get("name"), found.lowest[0], file)
    values = {**values, WORST_CLASS.key: worst.get("accuracy")}
    _require_equal("n", values.get("n"), scores.n, file)
    for figure in published_figures():
        if not (figure.limit and found.is_open):
            _require_equal(figure.key, values.get(figure.key), scores.figures[figure.key], file)
        name = figure.interval_key
        theirs, ours = values.get(name), scores.intervals.get(name)
        if found.is_open or theirs is None or ours is None:
            continue  # versions before 0.1.0 wrote no intervals
        if not isinstance(theirs, list) or len(theirs) != 2:
            raise _contradiction(name, theirs, ours, file)
        for end, own in zip(theirs, ours, strict=True):
            _require_equal(name, end, own, file)


def _require_confusion(
    n_K: NDArray[np.int64], correct_K: NDArray[np.int64], names: Sequence[str], stated: Fields
) -> None:
    """The matrix of an untargeted attack has the same counts on its rows and its diagonal."""
    confusion = stated.list("confusion")
    K = len(n_K)
    is_table = len(confusion) == K and all(
        isinstance(row, list)
        and len(row) == K
        and all(isinstance(cell, int) and 0 <= cell < 2**53 for cell in row)
        for row in confusion
    )
    if not is_table:
        raise UserError(f"{stated.file}: confusion is no table of counts. Copy the file again.")
    for i, (name, row) in enumerate(zip(names, confusion, strict=True)):
        if (sum(row), row[i]) != (n_K[i], correct_K[i]):
            said, own = f"{row[i]} of {sum(row)}", f"{correct_K[i]} of {n_K[i]}"
            raise _contradiction(f"confusion of {name}", said, own, stated.file)


def _require_equal(name: str, stated: Any, own: float | None, where: str) -> None:
    found = number(stated)
    if (found is None) != (own is None) or (
        found is not None and own is not None and abs(found - own) > _ROUNDING
    ):
        raise _contradiction(name, stated, own, where)


def _contradiction(name: str, stated: Any, own: Any, where: str) -> UserError:
    return UserError(
        f"{where}: {name} is {' '.join(str(stated).split())[:60]}, but the counts of its classes "
        f"give {own}. Make the scorecard again with ferd-eval report, and copy it."
    )
