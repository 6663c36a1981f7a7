"""Figures of one attack, computed anew from the counts of each class that a scorecard holds.

Whoever publishes a scorecard can write any figure into it. What is shown is therefore what the
counts give, by the same code for every run; figures that contradict them are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError
from ferd_eval.metrics import possibly_worst
from ferd_eval.metrics.dispersion import shares
from ferd_eval.metrics.figures import WORST_CLASS, Figure, published_figures
from ferd_eval.metrics.intervals import Interval
from ferd_eval.results.attack_id import eps_of
from ferd_eval.results.manifest import look_up
from ferd_eval.results.schema import Fields, number

#: What versions of numerical libraries may change of a figure.
_ROUNDING = 1e-6

#: Digits that versions of numerical libraries agree on; no printed figure turns on the others.
_DIGITS = 9


@dataclass(frozen=True)
class OpenEnds:
    """Of an attack that in part saw only a sample: limits that allow for what it may have missed.

    Attributes:
        average: lower end of the 95 % interval of the average.
        lowest: of the lowest class.
        floor: with 95 % confidence every class is right at least this often.
    """

    average: float
    lowest: float
    floor: float


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How many images of each class stand under one attack.

    Attributes:
        attack: id as in the scorecard, such as ``pgd`` or ``pgd@2/255``.
        open_ends: None where all of the attack saw all images.
    """

    attack: str
    constants: Mapping[str, Any]
    class_names: tuple[str, ...]
    n_K: NDArray[np.int64]
    correct_K: NDArray[np.int64]
    open_ends: OpenEnds | None

    @property
    def eps(self) -> float | None:
        """Radius of the ball; None of clean images."""
        return None if self.is_clean else eps_of(self.attack, self.constants)

    @property
    def is_clean(self) -> bool:
        """Whether nobody attacked."""
        return self.attack == "clean"

    @property
    def n(self) -> int:
        """Images."""
        return int(self.n_K.sum())

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Of each class; NaN without images."""
        return shares(self.correct_K, self.n_K)

    def value(self, figure: Figure) -> float | None:
        """A figure over all classes, as far as an audit allows."""
        if figure.limit and figure.open_end and self.open_ends is not None:
            return stable(getattr(self.open_ends, figure.open_end))
        value = figure.value(self.correct_K, self.n_K)
        return None if value is None else stable(value)

    def interval(self, figure: Figure) -> Interval | None:
        """Its 95 % interval, which reaches down to what an audit may have missed."""
        ends = figure.interval95(self.correct_K, self.n_K)
        if ends is None:
            return None
        low, high = ends
        if self.open_ends is not None:
            low = min(low, getattr(self.open_ends, figure.open_end or "average"))
        return stable(low), stable(high)

    @property
    def lowest(self) -> tuple[str, ...]:
        """The classes that share the lowest accuracy."""
        places = np.flatnonzero(self.accuracy == np.nanmin(self.accuracy))
        return tuple(self.class_names[i] for i in places)

    @property
    def possibly_worst(self) -> tuple[str, ...] | None:
        """Those that cannot be excluded as the lowest; None where part of the attack is open."""
        if self.open_ends is not None:
            return None
        places = sorted(possibly_worst(self.correct_K, self.n_K).tolist())
        return tuple(self.class_names[i] for i in places)


def stable(value: float) -> float:
    """Without the last digits, which versions of numerical libraries do not agree on."""
    return round(value, _DIGITS)


def read_counts(card: Fields, attack: str, class_names: Sequence[str]) -> ClassCounts:
    """Read one attack of a scorecard.

    Raises:
        UserError: the counts are not there, or figures beside them contradict them.
    """
    where = f"{card.file}, {attack}"
    scores = Fields(where, _object(card.object("attacks").get(attack), where))
    per_class = scores.list("per_class")
    if [_name(each) for each in per_class] != list(class_names):
        raise UserError(
            f"{where}: the classes are not those of the data set. Copy the file from the run again."
        )
    n_K = np.array([_count(each.get("n"), 1.0, where) for each in per_class], dtype=np.int64)
    correct_K = np.array(
        [
            _count(each.get("accuracy") if n else 0.0, float(n), where)
            for each, n in zip(per_class, n_K, strict=True)
        ],
        dtype=np.int64,
    )
    if not n_K.any() or (correct_K < 0).any() or (correct_K > n_K).any():
        raise UserError(f"{where}: the counts are impossible. Copy the file from the run again.")
    constants = _object(scores.values.get("constants"), where)
    ends = _open_ends(scores, len(class_names))
    counts = ClassCounts(attack, constants, tuple(class_names), n_K, correct_K, ends)
    _require_agreement(counts, scores)
    return counts


def _name(each: Any) -> Any:
    return each.get("name") if isinstance(each, Mapping) else None


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


def _open_ends(scores: Fields, num_classes: int) -> OpenEnds | None:
    """Limits of an audited attack, as its scorecard has them; 0 where it does not say."""
    if not isinstance(scores.values.get("audit"), Mapping):
        return None
    audit = Fields(scores.file, scores.object("audit"))
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
    return OpenEnds(max(average, 0.0), least("low95"), least("floor95"))


def _require_agreement(counts: ClassCounts, scores: Fields) -> None:
    """What the scorecard says beside its counts is what they give.

    Raises:
        UserError: it is not; the message names the first figure that is other.
    """
    worst = _object(scores.values.get(WORST_CLASS.key), scores.file)
    if worst.get("name") not in counts.lowest:
        name = f"{WORST_CLASS.key}.name"
        raise _contradiction(name, worst.get("name"), counts.lowest[0], scores.file)
    stated = {**scores.values, WORST_CLASS.key: worst.get("accuracy")}
    _require_equal("n", stated.get("n"), counts.n, scores.file)
    for figure in published_figures():
        if not figure.limit or counts.open_ends is None:
            own = counts.value(figure)
            _require_equal(figure.key, stated.get(figure.key), own, scores.file)
    if counts.open_ends is None:
        _require_intervals(counts, scores)
    if scores.values.get("target") is None or "sources" in _target(scores):
        _require_confusion(counts, scores)


def _require_intervals(counts: ClassCounts, scores: Fields) -> None:
    """Intervals, where the scorecard has them: versions before 0.1.0 was released do not."""
    for figure in published_figures():
        name, own = figure.interval_key, counts.interval(figure)
        stated = scores.values.get(name)
        if stated is None or own is None:
            continue
        if not isinstance(stated, list) or len(stated) != 2:
            raise _contradiction(name, stated, own, scores.file)
        for ours, theirs in zip(own, stated, strict=True):
            _require_equal(name, theirs, ours, scores.file)


def _target(scores: Fields) -> Mapping[str, Any]:
    target = scores.values.get("target")
    return target if isinstance(target, Mapping) else {}


def _require_confusion(counts: ClassCounts, scores: Fields) -> None:
    """The matrix of an untargeted attack has the same counts on its rows and its diagonal."""
    confusion = scores.list("confusion")
    K = len(counts.n_K)
    whole = all(
        isinstance(row, list)
        and len(row) == K
        and all(isinstance(cell, int) and 0 <= cell < 2**53 for cell in row)
        for row in confusion
    )
    if len(confusion) != K or not whole:
        raise UserError(f"{scores.file}: confusion is no table of counts. Copy the file again.")
    for i, row in enumerate(confusion):
        if sum(row) != counts.n_K[i] or row[i] != counts.correct_K[i]:
            raise _contradiction(
                f"confusion of {counts.class_names[i]}",
                f"{row[i]} of {sum(row)}",
                f"{counts.correct_K[i]} of {counts.n_K[i]}",
                scores.file,
            )


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
