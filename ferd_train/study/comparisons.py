"""Each method of a study against its baseline, by networks of the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ferd_eval.errors import listed
from ferd_eval.metrics import Comparison, compare_methods
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.results.outcomes import Outcomes
from ferd_train.study.definition import Study
from ferd_train.study.tables import Column, StudyRow


@dataclass(frozen=True, eq=False)
class AgainstBaseline:
    """A row against the baseline under one attack.

    Attributes:
        seeds: that both have.
        found: None where there are too few of them.
    """

    row: StudyRow
    baseline: StudyRow
    column: Column
    seeds: tuple[int, ...]
    found: Comparison | None

    @property
    def why_not(self) -> str:
        """In a sentence, where nothing was compared."""
        have = f"seeds {listed(tuple(map(str, self.seeds)))}" if self.seeds else "no seed"
        return (
            f"{self.row.name} and {self.baseline.name} have {have} in common under "
            f"{self.column.attack}; a verdict on methods needs {FEWEST_SEEDS} or more."
        )


def against_baseline(
    rows: Sequence[StudyRow], shown: Sequence[Column], study: Study
) -> tuple[AgainstBaseline, ...]:
    """All methods but the baseline, of each teacher by itself, attack by attack."""
    return tuple(_comparisons(rows, shown, study))


def _comparisons(
    rows: Sequence[StudyRow], shown: Sequence[Column], study: Study
) -> Iterator[AgainstBaseline]:
    for baseline in rows:
        if baseline.row is None or baseline.name != study.baseline:
            continue
        others = [
            row
            for row in rows
            if row.row is not None and row.teacher == baseline.teacher and row is not baseline
        ]
        for column in shown:
            for row in others:
                yield _compare(baseline, row, column)


def _compare(baseline: StudyRow, row: StudyRow, column: Column) -> AgainstBaseline:
    first, second = _by_seed(baseline, column), _by_seed(row, column)
    seeds = tuple(seed for seed in first if seed in second)
    found = None
    if len(seeds) >= FEWEST_SEEDS:
        found = compare_methods(
            [first[seed] for seed in seeds],
            [second[seed] for seed in seeds],
            column.attack,
            by_seed=True,
        )
    return AgainstBaseline(row, baseline, column, seeds, found)


def _by_seed(row: StudyRow, column: Column) -> dict[int, Outcomes]:
    entry = row.entries.get(column.evaluation.name)
    if entry is None:
        return {}
    return {
        seed: run for seed, run in zip(entry.seeds, entry.runs, strict=True) if seed is not None
    }
