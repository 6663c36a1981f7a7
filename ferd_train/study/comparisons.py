"""Each row of a study against the baseline, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ferd_eval.errors import listed
from ferd_eval.metrics import Comparison, compare_methods
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_train.study.definition import Study
from ferd_train.study.tables import AttackColumn, TableRow


@dataclass(frozen=True, eq=False)
class AgainstBaseline:
    """A row against the baseline under one attack.

    Attributes:
        seeds: that both have.
        found: None if these are too few.
    """

    row: TableRow
    baseline: TableRow
    column: AttackColumn
    seeds: tuple[int, ...]
    found: Comparison | None

    @property
    def why_not(self) -> str:
        """Why nothing was compared."""
        have = f"seeds {listed(tuple(map(str, self.seeds)))}" if self.seeds else "no seed"
        return (
            f"{self.row.name} and {self.baseline.name} have {have} in common under "
            f"{self.column.attack}; a verdict on methods needs {FEWEST_SEEDS} or more."
        )


def against_baseline(
    rows: Sequence[TableRow], shown: Sequence[AttackColumn], study: Study
) -> Iterator[AgainstBaseline]:
    """All rows but the baseline, teacher by teacher and attack by attack."""
    students = [row for row in rows if row.row is not None]
    for baseline in students:
        if baseline.name == study.baseline:
            others = [row for row in students if row.teacher == baseline.teacher]
            for column in shown:
                for row in others:
                    if row is not baseline:
                        yield _compare(baseline, row, column)


def _compare(baseline: TableRow, row: TableRow, column: AttackColumn) -> AgainstBaseline:
    first, second = baseline.by_seed(column), row.by_seed(column)
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
