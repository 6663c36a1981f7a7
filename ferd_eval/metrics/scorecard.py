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
from ferd_eval.metrics.confusion.matrix import ErrorPattern
from ferd_eval.metrics.confusion.target_bias import ErrorShift, TargetEffect
from ferd_eval.metrics.confusion.targeted import TargetedSuccess
from ferd_eval.metrics.intervals import Interval
from ferd_eval.metrics.per_class import finite
from ferd_eval.metrics.sanity.audit import Audit
from ferd_eval.metrics.sanity.panel import TrustPanel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ClassScore:
    """One class (or group of classes) under one attack."""

    index: int
    name: str
    n: int
    accuracy: float | None
    #: Two-sided 95 % interval of ``accuracy``; under an audited attack the lower end allows for
    #: what the audit may have missed.
    wilson95: tuple[float, float] | None
    #: The same for all classes at once (Clopper–Pearson, Bonferroni).
    simultaneous95: tuple[float, float] | None
    drop: float | None  #: clean accuracy of the same images − ``accuracy``


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
    """

    n: int  #: images
    figures: Mapping[str, float | None]  #: key → value, keys of `ferd_eval.metrics.figures.FIGURES`
    #: Key → two-sided 95 % interval, of the true lowest class and so on, whichever it is. Under an
    #: audited attack they allow for what the audit may have missed, or are None.
    intervals: Mapping[str, Interval | None]
    per_class: tuple[ClassScore, ...]
    worst_class: WorstClass | None
    #: The classes that cannot be excluded as the lowest, with 95 % confidence, in increasing order
    #: of accuracy; None where a part of the attack saw only a sample.
    possibly_worst: tuple[int, ...] | None
    #: Counts, rows true classes, columns predictions. For a targeted attack it counts attempts, one
    #: per (image, target), not images.
    confusion: NDArray[np.int64]

    def __getattr__(self, key: str) -> Any:
        for found in (self.__dict__.get("figures", {}), self.__dict__.get("intervals", {})):
            if key in found:
                return found[key]
        raise AttributeError(f"no figure is called {key}")


@dataclass(frozen=True)
class TargetConfusion(ErrorPattern):
    """Where errors under an untargeted attack go, beside the same for clean errors."""

    #: The semantic baseline on the same images; None where clean predictions are unknown.
    clean: ErrorPattern | None


@dataclass(frozen=True, eq=False)
class AttackScores(Scores):
    """The figures of one attack, with where its errors go and the constants it ran with."""

    target: TargetConfusion | TargetedSuccess
    #: Whether some classes are easier to be attacked into; None where nothing tells.
    toward: TargetEffect | ErrorShift | None
    constants: Mapping[str, Any]
    #: What is open where part of the attack saw only a sample; floor and intervals then take it
    #: into account, and are not given for groups.
    audit: Audit | None


@dataclass(frozen=True)
class Profile:
    """One attack at several budgets, in increasing order."""

    attacks: tuple[str, ...]
    eps: tuple[float, ...]
    eps_text: tuple[str, ...]
    average: tuple[float | None, ...]
    worst_class: tuple[float | None, ...]
    average95: tuple[Interval | None, ...]  #: two-sided 95 % intervals, as in `Scores`
    worst_class95: tuple[Interval | None, ...]
    per_class: tuple[tuple[float | None, ...], ...]  #: one tuple of K accuracies for each budget


@dataclass(frozen=True, eq=False)
class Scorecard:
    """All figures of one run, and the run's facts."""

    attacks: Mapping[str, AttackScores]  #: attack id → figures, in the order they were run
    #: Grouping → attack id → the same figures over groups of classes. An image is correct if its
    #: class is right; naming another class of its group is an error.
    groups: Mapping[str, Mapping[str, Scores]]
    profile: Mapping[str, Profile]  #: attack → its figures over ε, where it ran with several
    dataset: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    model: Mapping[str, Any]
    seed: int | None
    precision: Mapping[str, Any]
    versions: Mapping[str, str]  #: ferd_eval and the packages it ran with
    flags: tuple[str, ...]  #: warnings: the sentences of `trust` that warn
    trust: TrustPanel  #: every question about the attacks with its answer

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: dictionaries, lists, numbers, text and None."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def plot(self, attack: str) -> Figure:
        """Draw each class's accuracy under an attack with its 95 % interval, the worst in red.

        Raises:
            UserError: matplotlib is missing, or no such attack was run.
        """
        if attack not in self.attacks:
            known = did_you_mean(attack, self.attacks)
            raise UserError(f"no attack of this run is called {attack!r}.{known}")
        scores = self.attacks[attack]
        title = f"{self.dataset.get('name', '')} under {attack}".strip()
        worst = f": worst class {scores.worst_class.name}" if scores.worst_class else ""
        return _class_chart(f"{title}{worst}", scores)


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


#: Colours of a chart.
_OTHER, _WORST, _SOFT = "#0072b2", "#d55e00", "#5b6067"


def _class_chart(title: str, scores: Scores) -> Figure:
    """One bar for each class's accuracy with its interval, from 0 to 1; the lowest in red."""
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise UserError("charts need matplotlib: pip install 'ferd[plots]'.") from missing

    classes, worst = scores.per_class, scores.worst_class
    lowest = () if worst is None else (worst.index, *worst.tied)
    figure = Figure(figsize=(6.4, 1.4 + 0.3 * len(classes)), layout="constrained")
    ax = figure.subplots()
    for k, each in enumerate(classes):
        if each.accuracy is None:
            ax.text(0.01, k, "no images", va="center", color=_SOFT)
            continue
        ends = None
        if each.wilson95 is not None:
            low, high = each.wilson95
            ends = [[max(each.accuracy - low, 0)], [max(high - each.accuracy, 0)]]
        colour = _WORST if k in lowest else _OTHER
        ax.barh(k, each.accuracy, xerr=ends, color=colour, ecolor=_SOFT, capsize=2)
    if scores.average is not None:
        ax.axvline(scores.average, color=_SOFT, linestyle=":", label="average over images")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))
    ax.set_yticks(range(len(classes)), [each.name for each in classes])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy, with 95 % intervals")
    ax.set_title(title, loc="left")
    return figure
