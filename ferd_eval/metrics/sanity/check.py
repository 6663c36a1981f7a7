"""One question about whether figures can be trusted, and its answer. K classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc

from ferd_eval.errors import listed
from ferd_eval.metrics.intervals import hypergeometric

Status = Literal["ok", "warning", "not measured"]

#: Level of each test over all images, and of all its tests over classes together.
LEVEL = 0.01


@dataclass(frozen=True)
class Counts:
    """So many of so many images of each of K classes."""

    what: str  #: what the images counted have in common
    count: tuple[int, ...]
    n: tuple[int, ...]

    @classmethod
    def of(cls, what: str, count_K: ArrayLike, n_K: ArrayLike) -> Counts:
        return cls(what, tuple(np.asarray(count_K).tolist()), tuple(np.asarray(n_K).tolist()))


@dataclass(frozen=True)
class Check:
    """A question about the run, with its answer."""

    name: str  #: a few words, with ε where the run has several
    question: str  #: the reader's question
    status: Status
    statement: str  #: the finding as a sentence that stands alone
    classes: tuple[str, ...] = ()  #: those a warning is about; empty if it is about all
    per_class: Counts | None = None  #: the counts behind it, where they make sense by class


@dataclass(frozen=True)
class Finding:
    """An answer without its question."""

    warns: bool | None  #: None where it was not measured
    statement: str  #: this and the rest as in `Check`
    classes: tuple[str, ...] = ()
    per_class: Counts | None = None

    def answers(self, name: str, question: str) -> Check:
        status: Status = "not measured" if self.warns is None else "warning" if self.warns else "ok"
        return Check(name, question, status, self.statement, self.classes, self.per_class)


def excess_p(count: ArrayLike, n: ArrayLike, share: float) -> NDArray[np.float64]:
    """One-sided exact p-values that `count` of `n` images are no more than `share` explains."""
    count, n = np.asarray(count), np.asarray(n)
    p: NDArray[np.float64] = np.where(count > 0, bdtrc(count - 1.0, np.maximum(n, 1), share), 1.0)
    return p


def excess(count_K: ArrayLike, n_K: ArrayLike, share: float) -> tuple[bool, NDArray[np.int64]]:
    """Whether all images together show more than `share`, and the classes that do (Bonferroni)."""
    count_K, n_K = np.asarray(count_K), np.asarray(n_K)
    overall = float(excess_p(count_K.sum(), n_K.sum(), share)) < LEVEL
    return overall, np.flatnonzero(excess_p(count_K, n_K, share) < LEVEL / len(n_K))


def less_p(low: int, n_low: int, high: int, n_high: int) -> float:
    """One-sided p-value that a share is no lower than another, given `low` of `n_low` and so on.

    Fisher's exact test: the hypergeometric probability of `low` successes or fewer.
    """
    return float(hypergeometric(np.arange(low + 1), low + high, n_low, n_low + n_high).sum())


def pick(names: Sequence[str], classes: Iterable[int]) -> tuple[str, ...]:
    """Names of some classes."""
    return tuple(names[k] for k in classes)


def images(count: int) -> str:
    """``1 image``, ``12 images``."""
    return counted(count, "image", "images")


def classes(names: Sequence[str]) -> str:
    """``1 class (cat)``, ``2 classes (cat and dog)``."""
    return f"{counted(len(names), 'class', 'classes')} ({listed(names)})"


def counted(count: int, one: str, several: str) -> str:
    """A number and its noun."""
    return f"{count} {one if count == 1 else several}"
