"""What a stronger attack takes from each class beyond a weaker one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.dispersion import shares
from ferd_eval.metrics.per_class import by_class


@dataclass(frozen=True)
class ClassGap:
    """One class under two attacks; accuracies are fractions, None without images."""

    index: int
    name: str
    n: int
    first: float | None
    second: float | None
    gap: float | None  #: `first` − `second`
    interval95: tuple[float, float] | None  #: of `gap`, on its own (Tango 1998)


@dataclass(frozen=True)
class AttackGap:
    """What a stronger attack takes from each class beyond a weaker one."""

    first: str  #: ids of the weaker and the stronger attack
    second: str
    eps_text: str | None  #: their ε, None where it is unknown
    overall: ClassGap  #: the same over all images (`index` is −1)
    per_class: tuple[ClassGap, ...]


def attack_gap(
    pair: Paired, first: str, second: str, eps_text: str | None, names: Sequence[str]
) -> AttackGap:
    """The gap overall and in each class, with intervals."""
    (overall,) = _class_gaps(pair.total(), ("all",))
    return AttackGap(first, second, eps_text, replace(overall, index=-1), _class_gaps(pair, names))


def _class_gaps(pair: Paired, names: Sequence[str]) -> tuple[ClassGap, ...]:
    return by_class(
        ClassGap,
        names,
        n=pair.n_K,
        first=shares(pair.first_right, pair.n_K),
        second=shares(pair.second_right, pair.n_K),
        gap=pair.gap(),
        interval95=pair.gap_interval(),
    )
