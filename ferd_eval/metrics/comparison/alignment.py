"""Several runs on the same images, image by image. N images, R runs, K classes, F folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.errors import UserError
from ferd_eval.metrics.comparison.delta import FOLDS
from ferd_eval.results.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class SameImages:
    """Who is right on which image under one attack."""

    label_N: NDArray[np.int64]  #: the class of each image
    fold_N: NDArray[np.int64]  #: a part of its class, the same for an image in every comparison
    #: Whether each run is right; under a targeted attack, whatever the class aimed at.
    right_RN: NDArray[np.bool_]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Outcomes], attack: str) -> SameImages:
        """Line the runs up; UserError where one lacks the attack or was scored on other images."""
        first = runs[0]
        for each in runs:
            if attack not in each.attacks:
                raise UserError(
                    f"{_name(each)} was not scored under {attack}; it has "
                    f"{', '.join(each.attacks)}. Give --attack one that all runs share."
                )
            _require_same_data(first, each)
        columns = [_verdicts(each, attack) for each in runs]
        reference = columns[0]
        for column, run in zip(columns, runs, strict=True):
            same = column.index.equals(reference.index)
            if not same or not (column["label"] == reference["label"]).all():
                raise _not_the_same(first, run)
        label_N = reference["label"].to_numpy(dtype=np.int64)
        return cls(
            label_N,
            _folds(reference.index.to_numpy(dtype=np.uint64), label_N),
            np.stack([column["right"].to_numpy(dtype=bool) for column in columns]),
            first.class_names,
        )

    def counts(self, first: int, second: int) -> NDArray[np.int64]:
        """Images by class, fold, and whether the first and the second run are right: K×F×2×2."""
        K = len(self.class_names)
        cell_N = (self.label_N * FOLDS + self.fold_N) * 4
        cell_N += 2 * self.right_RN[first] + self.right_RN[second]
        return np.bincount(cell_N, minlength=K * FOLDS * 4).reshape(K, FOLDS, 2, 2)


def _verdicts(run: Outcomes, attack: str) -> pd.DataFrame:
    """One row an image, by its place in the data set."""
    rows = run.of(attack)
    if not rows["target"].notna().any():
        if rows["index"].duplicated().any():
            raise UserError(f"{_name(run)} holds images more than once under {attack}.")
        return (
            rows.set_index("index")[["label", "correct"]]
            .sort_index()
            .set_axis(["label", "right"], axis=1)
        )
    return rows.groupby("index").agg(label=("label", "first"), right=("correct", "all"))


def _require_same_data(first: Outcomes, other: Outcomes) -> None:
    if first.class_names != other.class_names:
        if sorted(first.class_names) == sorted(other.class_names):
            k = next(k for k, name in enumerate(first.class_names) if name != other.class_names[k])
            raise UserError(
                f"{_name(first)} and {_name(other)} have the same classes in another order: class "
                f"{k} is {first.class_names[k]} and {other.class_names[k]}. Score both with one "
                "--class-order or --classes."
            )
        raise UserError(
            f"{_name(first)} and {_name(other)} have other classes ({len(first.class_names)} and "
            f"{len(other.class_names)}). Compare runs on one data set."
        )
    prints = [run.manifest["dataset"].get("fingerprint") for run in (first, other)]
    if all(prints) and prints[0] != prints[1]:
        raise _not_the_same(first, other)


def _not_the_same(first: Outcomes, other: Outcomes) -> UserError:
    described = [
        f"{_name(run)} on {data.get('n', '?')} of {data.get('name', '?')} "
        f"({data.get('selection', 'unknown')})"
        for run in (first, other)
        for data in (run.manifest["dataset"],)
    ]
    return UserError(
        f"the runs were not scored on the same images: {described[0]}, {described[1]}. Score both "
        "on the same ones: only then is a difference of a point more than luck of the draw."
    )


def _name(run: Outcomes) -> str:
    return str((run.manifest.get("checkpoint") or {}).get("name") or "a run")


def _folds(index_N: NDArray[np.uint64], label_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal each class out to the folds, in an order that has nothing to do with the images'."""
    order_N = np.lexsort((_scrambled(index_N), label_N))
    sorted_N = label_N[order_N]
    starts_N = np.searchsorted(sorted_N, sorted_N)
    fold_N = np.empty(len(label_N), dtype=np.int64)
    fold_N[order_N] = (np.arange(len(label_N)) - starts_N) % FOLDS
    return fold_N


def _scrambled(index_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014): every bit depends on every other."""
    mixed = index_N + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class Mismatch:
    """A constant that one run's attack had otherwise than the first run's."""

    place: int  #: of the other run
    constant: str
    here: Any  #: the value in the first run, `there` in the other; None where not recorded
    there: Any


def mismatch(runs: Sequence[Outcomes], attack: str) -> Mismatch | None:
    """Return the first constant in which a run differs from the first; None if none does.

    What only one of two runs records counts as different, except where one was imported: what its
    attack was beside ε, nobody knows (`unknown_constants`).
    """
    first = runs[0]
    for place, other in enumerate(runs[1:], start=1):
        ours, theirs = (_constants(run, attack) for run in (first, other))
        known = {*ours} & {*theirs} if _imported(first) or _imported(other) else {*ours, *theirs}
        for name in (each for each in {**ours, **theirs} if each in known):
            if not _same(ours.get(name), theirs.get(name)):
                return Mismatch(place, name, ours.get(name), theirs.get(name))
    return None


def unknown_constants(runs: Sequence[Outcomes], attack: str) -> tuple[str, ...]:
    """Constants that some of the runs do not record, and others do."""
    recorded = [_constants(run, attack) for run in runs]
    names = dict.fromkeys(name for each in recorded for name in each)
    return tuple(name for name in names if not all(name in each for each in recorded))


def _constants(run: Outcomes, attack: str) -> Mapping[str, Any]:
    """Without those that only repeat another as text."""
    constants = run.manifest["attacks"].get(attack) or {}
    return {
        name: value
        for name, value in constants.items()
        if value is not None and name.removesuffix("_text") not in {*constants} - {name}
    }


def _imported(run: Outcomes) -> bool:
    return bool(run.manifest.get("engine") == "imported")


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= 1e-9 * max(abs(ours), abs(theirs))
    return bool(ours == theirs)
