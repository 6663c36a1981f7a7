"""What a stronger attack takes from each class beyond a weaker one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.confusion.matrix import finite


@dataclass(frozen=True)
class ClassGap:
    """One class under two attacks; accuracies are fractions, None without images.

    Attributes:
        gap: `first` − `second`.
        interval95: of `gap`, on its own (Tango 1998).
    """

    index: int
    name: str
    n: int
    first: float | None
    second: float | None
    gap: float | None
    interval95: tuple[float, float] | None


@dataclass(frozen=True)
class AttackGap:
    """What a stronger attack takes from each class beyond a weaker one.

    Attributes:
        first, second: ids of the weaker and the stronger attack.
        eps_text: their ε, None where it is unknown.
        overall: the same over all images (`index` is −1).
    """

    first: str
    second: str
    eps_text: str | None
    overall: ClassGap
    per_class: tuple[ClassGap, ...]


def attack_gap(
    pair: Paired, first: str, second: str, eps_text: str | None, names: Sequence[str]
) -> AttackGap:
    """The gap overall and in each class, with intervals."""
    (overall,) = _class_gaps(pair.total(), ("all",), start=-1)
    return AttackGap(first, second, eps_text, overall, tuple(_class_gaps(pair, names)))


def _class_gaps(pair: Paired, names: Sequence[str], start: int = 0) -> Iterator[ClassGap]:
    gap_K, (low_K, high_K) = pair.gap(), pair.gap_interval()
    for k, name in enumerate(names):
        n = int(pair.n_K[k])
        yield ClassGap(
            index=start + k,
            name=name,
            n=n,
            first=int(pair.first_right[k]) / n if n else None,
            second=int(pair.second_right[k]) / n if n else None,
            gap=finite(gap_K[k]),
            interval95=(float(low_K[k]), float(high_K[k])) if n else None,
        )
