"""The types that hold every figure of a run.

Accuracies are fractions. A class without images has n = 0 and no accuracy (None), never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.metrics.confusion.matrix import ErrorPattern, finite
from ferd_eval.metrics.confusion.target_bias import ErrorShift, TargetEffect
from ferd_eval.metrics.confusion.targeted import TargetedSuccess
from ferd_eval.metrics.intervals import Interval
from ferd_eval.metrics.sanity.audit import Audit
from ferd_eval.metrics.sanity.panel import TrustPanel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ClassScore:
    """One class (or group of classes) under one attack.

    Attributes:
        wilson95: two-sided 95 % interval of ``accuracy``; under an audited attack the lower end
            allows for what the audit may have missed.
        simultaneous95: the same for all classes at once (Clopper–Pearson, Bonferroni).
        drop: clean accuracy of the same images − ``accuracy``.
    """

    index: int
    name: str
    n: int
    accuracy: float | None
    wilson95: tuple[float, float] | None
    simultaneous95: tuple[float, float] | None
    drop: float | None


@dataclass(frozen=True)
class WorstClass:
    """The class of the lowest accuracy; ``tied`` holds the other classes that share it."""

    index: int
    name: str
    accuracy: float
    tied: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scores:
    """How well, and how evenly, the classes (or groups) stand under one attack.

    A figure or interval is an attribute, too: ``scores.nsd``, ``scores.average95``.

    Attributes:
        n: images.
        figures: key → value, as `ferd_eval.metrics.figures.FIGURES` has them.
        intervals: key → two-sided 95 % interval, of the true lowest class and so on, whichever it
            is. Under an audited attack they allow for what the audit may have missed, or are None.
        possibly_worst: the classes that cannot be excluded as the lowest, with 95 % confidence, in
            increasing order of accuracy; None where a part of the attack saw only a sample.
        confusion: counts, rows true classes, columns predictions. For a targeted attack it counts
            attempts, one per (image, target), not images.
    """

    n: int
    figures: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    per_class: tuple[ClassScore, ...]
    worst_class: WorstClass | None
    possibly_worst: tuple[int, ...] | None
    confusion: NDArray[np.int64]

    def __getattr__(self, key: str) -> Any:
        for found in (self.__dict__.get("figures", {}), self.__dict__.get("intervals", {})):
            if key in found:
                return found[key]
        raise AttributeError(f"no figure is called {key}")


@dataclass(frozen=True)
class TargetConfusion(ErrorPattern):
    """Where errors under an untargeted attack go, beside the same for clean errors.

    Attributes:
        clean: the semantic baseline on the same images; None where clean predictions are unknown.
    """

    clean: ErrorPattern | None


@dataclass(frozen=True, eq=False)
class AttackScores(Scores):
    """The figures of one attack, with where its errors go and the constants it ran with.

    Attributes:
        toward: whether some classes are easier to be attacked into; None where nothing tells.
        audit: what is open where part of the attack saw only a sample; floor and intervals then
            take it into account, and are not given for groups.
    """

    target: TargetConfusion | TargetedSuccess
    toward: TargetEffect | ErrorShift | None
    constants: Mapping[str, Any]
    audit: Audit | None


@dataclass(frozen=True)
class Profile:
    """One attack at several budgets, in increasing order.

    Attributes:
        average95, worst_class95: two-sided 95 % intervals, as in `Scores`.
        per_class: one tuple of K accuracies for each budget.
    """

    attacks: tuple[str, ...]
    eps: tuple[float, ...]
    eps_text: tuple[str, ...]
    average: tuple[float | None, ...]
    worst_class: tuple[float | None, ...]
    average95: tuple[Interval | None, ...]
    worst_class95: tuple[Interval | None, ...]
    per_class: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, eq=False)
class Scorecard:
    """Everything measured in one run, and what was measured.

    Attributes:
        attacks: attack id → figures, in the order in which the attacks were run.
        groups: grouping → attack id → the same figures over groups of classes. An image is correct
            if its class is right; naming another class of its group is an error.
        profile: attack → its figures over ε, where it ran with several.
        versions: ferd_eval and the packages it ran with.
        flags: what is suspicious about the attacks: the sentences of `trust` that warn.
        trust: every question about the attacks with its answer.
    """

    attacks: Mapping[str, AttackScores]
    groups: Mapping[str, Mapping[str, Scores]]
    profile: Mapping[str, Profile]
    dataset: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    model: Mapping[str, Any]
    seed: int | None
    precision: Mapping[str, Any]
    versions: Mapping[str, str]
    flags: tuple[str, ...]
    trust: TrustPanel

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: dictionaries, lists, numbers, text and None."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def plot(self, attack: str) -> Figure:
        """Draw each class's accuracy under an attack with its 95 % interval, the worst in red.

        Raises:
            UserError: matplotlib is missing, or no such attack was run.
        """
        from ferd_eval.metrics.plot import class_chart

        if attack not in self.attacks:
            known = did_you_mean(attack, self.attacks)
            raise UserError(f"no attack of this run is called {attack!r}.{known}")
        scores = self.attacks[attack]
        worst, classes = scores.worst_class, scores.per_class
        title = f"{self.dataset.get('name', '')} under {attack}".strip()
        return class_chart(
            title if worst is None else f"{title}: worst class {worst.name}",
            [each.name for each in classes],
            [each.accuracy for each in classes],
            [each.wilson95 for each in classes],
            lowest=() if worst is None else (worst.index, *worst.tied),
            average=scores.average,
        )


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        if isinstance(value, Scores):  # figures stand beside the rest; the worst class has a name
            found = {"n": value.n, **value.figures, **value.intervals, **found}
            del found["figures"], found["intervals"]
        return {name: _plain(item) for name, item in found.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return [[finite(cell) for cell in row] for row in value.tolist()]
        return value.tolist()
    return value
