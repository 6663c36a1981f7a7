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


@dataclass(frozen=True, eq=False)
class Line:
    """A figure over all classes, or a class, of both sides.

    Attributes:
        key: of a figure; empty for a class.
        figures: metric of ``compare.csv`` → its value: first, second, difference (second − first)
            and the ends of its interval; of a class with n and p.
        index: of a class.
        finding: of a class: "higher" or "lower" beyond chance after Holm's correction, else empty.
    """

    name: str
    figures: Mapping[str, FormattedValue]
    key: str = ""
    index: int = -1
    finding: str = ""

    @property
    def interval(self) -> FormattedValue:
        """Both ends; it sorts by the lower."""
        return between(self.figures["low95"], self.figures["high95"])

    def cells(self, *metrics: str) -> tuple[FormattedValue, ...]:
        """Figures by their metrics, of which "interval" is both ends."""
        figures = {**self.figures, "interval": self.interval}
        return tuple(figures[metric] for metric in metrics)


@dataclass(frozen=True, eq=False)
class ComparisonView:
    """A comparison, ready to print.

    Attributes:
        direction: of differences, ``B − A``.
        headline: the verdict with its reason.
        sentences: on certainty.
        taken_alone: why classes whose own interval leaves out 0 are not beyond chance.
        more: figures that are no `Line`: key → metric → value.
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
    overall: tuple[Line, ...]
    more: Mapping[str, Mapping[str, FormattedValue]]
    classes: tuple[Line, ...]
    reach: float
    by_attack: Mapping[str, tuple[Line, Line]]
    to_reference: Mapping[str, tuple[Line, ...]]
    tables: Mapping[str, Table]
