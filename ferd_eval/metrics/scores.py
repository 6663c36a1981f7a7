"""How well, and how evenly, classes stand under one attack: the types of which a scorecard is made.

Accuracies are fractions. A class without images has n = 0 and no accuracy (None), never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.metrics.confusion.matrix import ErrorPattern
from ferd_eval.metrics.confusion.target_bias import ErrorShift, TargetEffect
from ferd_eval.metrics.confusion.targeted import TargetedSuccess
from ferd_eval.metrics.intervals import Interval
from ferd_eval.metrics.sanity.audit import Audit


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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n} images: {self.in_brief})"

    @property
    def in_brief(self) -> str:
        """``78.5 % on average, lowest Shirt at 31.0 % (22.1 to 45.3)``."""
        average = self.figures["average"]
        if average is None or self.worst_class is None:
            return "no images"
        lowest = self.worst_class
        share = 100 * lowest.accuracy
        said = f"{100 * average:.1f} % on average, lowest {lowest.name} at {share:.1f} %"
        found = self.intervals.get("worst_class95")
        return said + (f" ({100 * found[0]:.1f} to {100 * found[1]:.1f})" if found else "")


@dataclass(frozen=True)
class TargetConfusion(ErrorPattern):
    """Where errors under an untargeted attack go, beside the same for clean errors."""

    #: The semantic baseline on the same images; None where clean predictions are unknown.
    clean: ErrorPattern | None


@dataclass(frozen=True, eq=False, repr=False)
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
