"""Types of a run's report; `build` makes them, every format renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferd_eval.metrics import Check, Profile, Scorecard
from ferd_eval.report.format import FormattedValue, Table

#: Name and figures of each class.
ClassFigures = tuple[tuple[str, Mapping[str, FormattedValue]], ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One scored checkpoint under the name that reports give it."""

    name: str
    scorecard: Scorecard
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class ClassLine:
    """One class (or group) under one attack.

    Attributes:
        low, high: Wilson 95 % ends, of this class on its own.
        least, most: 95 % ends that hold for all classes at once.
        possibly_worst: whether it cannot be excluded as the lowest; None where that is not known.
    """

    index: int
    name: str
    n: FormattedValue
    accuracy: FormattedValue
    low: FormattedValue
    high: FormattedValue
    least: FormattedValue
    most: FormattedValue
    possibly_worst: bool | None
    drop: FormattedValue
    clean: FormattedValue


@dataclass(frozen=True)
class Heatmap:
    """A K × K picture: counts, their totals, and the highest rate off the diagonal.

    Attributes:
        cells: (source, target, count) where the count is not 0.
        out_of: K totals of the rows, or K × K totals of the cells.
    """

    cells: tuple[tuple[int, int, int], ...]
    out_of: tuple[int, ...] | tuple[tuple[int, ...], ...]
    peak: FormattedValue


@dataclass(frozen=True, eq=False)
class AttackView:
    """One attack over the classes (or groups) of one run.

    Attributes:
        overall: the figures over all classes and the ends of their intervals, each by itself.
        intervals: the same intervals as they stand in tables.
        possibly_worst: names of the classes that cannot be excluded as the lowest, the lowest
            first; None where that is not known.
        lowest: names of the classes that are lowest in this sample.
    """

    id: str
    overall: Mapping[str, FormattedValue]
    intervals: Mapping[str, FormattedValue]
    possibly_worst: tuple[str, ...] | None
    lowest: tuple[str, ...]
    classes: tuple[ClassLine, ...]

    @property
    def lowest_first(self) -> tuple[ClassLine, ...]:
        """Classes by accuracy, those without images last."""

        def place(line: ClassLine) -> tuple[bool, float, int]:
            value = line.accuracy.value
            return value is None, value or 0.0, line.index

        return tuple(sorted(self.classes, key=place))


@dataclass(frozen=True, eq=False)
class TargetsView:
    """The classes that attacks of a run lead to.

    Attributes:
        answers: a row for each attack that says something.
        tables: the figures behind them, by class: of each targeted attack, and of the untargeted
            one that leaves the lowest average.
        overall: attack → figure over all classes.
        by_class: attack → name and figures of each class.
    """

    answers: Table
    tables: tuple[Table, ...]
    overall: Mapping[str, Mapping[str, FormattedValue]]
    by_class: Mapping[str, ClassFigures]


@dataclass(frozen=True, eq=False)
class RunView:
    """One run, ready to print.

    Attributes:
        sentences: the run in brief, for a reader who reads nothing else.
        headline: id of the strongest attack within the threat model, of several runs the
            strongest that all met; None where none was run.
        confusions, successes: attack → heat map of predictions, and of targeted success.
        errors: attack → where the errors of each class go.
        profiles: attack → its figures over ε.
        targets: whether attacks favour some target classes.
        checks: of the attacks, warnings first; `trust_table` holds the same.
    """

    name: str
    sentences: tuple[str, ...]
    headline: str | None
    class_names: tuple[str, ...]
    attacks: Mapping[str, AttackView]
    groups: Mapping[str, Mapping[str, AttackView]]
    profiles: Mapping[str, Profile]
    confusions: Mapping[str, Heatmap]
    successes: Mapping[str, Heatmap]
    errors: Mapping[str, ClassFigures]
    checks: tuple[Check, ...]
    inference_table: Table
    class_table: Table
    trust_table: Table
    audit_tables: tuple[Table, ...]
    gap_tables: tuple[Table, ...]
    group_tables: tuple[Table, ...]
    profile_tables: tuple[Table, ...]
    confusion_table: Table | None
    error_table: Table | None
    targeted_table: Table | None
    targets: TargetsView | None
    constants_table: Table
    cost_table: Table | None
    provenance_table: Table
    warnings: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables but the constants, in reading order."""
        tables = (
            self.inference_table,
            self.class_table,
            self.trust_table,
            *self.audit_tables,
            *self.gap_tables,
            *self.group_tables,
            *self.profile_tables,
            self.confusion_table,
            self.error_table,
            self.targeted_table,
            *((self.targets.answers, *self.targets.tables) if self.targets else ()),
            self.cost_table,
            self.provenance_table,
        )
        return tuple(table for table in tables if table is not None)

    @property
    def shown(self) -> AttackView:
        """The attack that charts open with: the headline, else the first one run."""
        return self.attacks[self.headline or next(iter(self.attacks))]


@dataclass(frozen=True)
class SideBySide:
    """Each class under one attack that all runs met.

    Attributes:
        lines: for each class, the lowest of the first run first, its line of each run.
    """

    table: Table
    lines: tuple[tuple[ClassLine, ...], ...]


@dataclass(frozen=True, eq=False)
class View:
    """A report over one or several runs."""

    title: str
    runs: tuple[RunView, ...]
    summary: Table
    side_by_side: SideBySide | None
