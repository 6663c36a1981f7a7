"""Types of a comparison's report: the groups of runs, the findings, and the lines as printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferd_eval.metrics import Comparison
from ferd_eval.report.format import FormattedValue, Table, between
from ferd_eval.results.run_group import RunGroup


@dataclass(frozen=True, eq=False)
class Reference:
    """A third network or method, and both sides compared with it.

    Attributes:
        to_first, to_second: differences, the side − the reference.
        note: on the pairing of seeds, and on networks taken as given.
    """

    group: RunGroup
    to_first: Comparison
    to_second: Comparison
    note: str


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """Two checkpoints, or two methods by their training seeds, on the same images.

    Attributes:
        attack: the verdict is about it.
        by_attack: the comparison under every attack that both met with the same constants.
        by_seed: whether differences were taken seed by seed; `pairing` says why.
        warnings: of the runs, and about circumstances that were not equal.
    """

    first: RunGroup
    second: RunGroup
    attack: str
    by_attack: Mapping[str, Comparison]
    by_seed: bool
    pairing: str
    warnings: tuple[str, ...]
    reference: Reference | None = None

    @property
    def comparison(self) -> Comparison:
        """Under the attack of the verdict."""
        return self.by_attack[self.attack]

    @property
    def constants(self) -> Mapping[str, Any]:
        """Of the attack of the verdict."""
        constants: Mapping[str, Any] = self.first.runs[0].manifest["attacks"].get(self.attack) or {}
        return constants

    @property
    def groups(self) -> tuple[RunGroup, ...]:
        """Both sides, and the reference where there is one."""
        return (self.first, self.second, *([self.reference.group] if self.reference else []))


@dataclass(frozen=True)
class Line:
    """Both sides, their difference (second − first) and its interval."""

    first: FormattedValue
    second: FormattedValue
    difference: FormattedValue
    low95: FormattedValue
    high95: FormattedValue

    @property
    def interval(self) -> FormattedValue:
        """Both ends; it sorts by the lower."""
        return between(self.low95, self.high95)

    @property
    def figures(self) -> Mapping[str, FormattedValue]:
        """Metric of ``compare.csv`` → its value."""
        return {key: each for key, each in vars(self).items() if isinstance(each, FormattedValue)}


@dataclass(frozen=True)
class DeltaLine(Line):
    """A figure over all classes."""

    detectable: FormattedValue
    key: str
    name: str


@dataclass(frozen=True)
class ClassDeltaLine(Line):
    """One class.

    Attributes:
        finding: "higher" or "lower" beyond chance after Holm's correction, else empty.
        reference: accuracy of the reference; None where there is none.
    """

    p: FormattedValue
    p_holm: FormattedValue
    reference: FormattedValue | None
    n: FormattedValue
    index: int
    name: str
    finding: str


@dataclass(frozen=True, eq=False)
class ComparisonView:
    """A comparison, ready to print.

    Attributes:
        direction: of differences, ``B − A``.
        headline: the verdict with its reason.
        sentences: on certainty.
        taken_alone: why classes whose own interval leaves out 0 are not beyond chance.
        classes: by their difference, those without images last.
        reach: half the width of a chart that holds every interval, a fraction.
        by_attack: attack → average and lowest class, or tenth.
        to_reference: direction → overall lines.
        tables: in reading order; "reference" only where there is one.
    """

    title: str
    first: str
    second: str
    attack: str
    direction: str
    verdict: str
    headline: str
    sentences: tuple[str, ...]
    taken_alone: str
    split_sentence: str
    warnings: tuple[str, ...]
    overall: tuple[DeltaLine, ...]
    raw_nsd: tuple[FormattedValue, FormattedValue, FormattedValue]
    split: tuple[FormattedValue, FormattedValue] | None
    classes: tuple[ClassDeltaLine, ...]
    reach: float
    by_attack: Mapping[str, tuple[DeltaLine, DeltaLine]]
    to_reference: Mapping[str, tuple[DeltaLine, ...]]
    tables: Mapping[str, Table]
