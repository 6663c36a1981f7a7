"""Types of a comparison's report: the groups of runs, the findings, and the lines as printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ferd_eval._lazy import ShownInNotebooks
from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.metrics import Comparison
from ferd_eval.report.comparison.chart import draw_differences
from ferd_eval.report.format import FormattedValue, Table, between
from ferd_eval.results.run_group import RunGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Of `ComparisonReport.to_frame`.
_COLUMNS = (
    "attack", "class", "n", "first", "second", "difference", "low", "high", "p", "p_holm",
    "beyond_chance",
)  # fmt: skip


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


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonReport(ShownInNotebooks):
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

    def to_frame(self) -> pd.DataFrame:
        """One row for each attack and class, fractions in full precision; NaN is no value.

        Columns: attack, class, n (images), first and second (accuracies), difference (second −
        first), low and high (its two-sided 95 % interval, of the class on its own), p, p_holm
        (adjusted for all classes), beyond_chance (``higher``, ``lower`` or empty).
        """
        rows = [
            (
                attack,
                each.name,
                each.n,
                each.first,
                each.second,
                each.value,
                *(each.interval95 or (None, None)),
                each.p,
                each.p_holm,
                "higher" if each.index in of.better else "lower" if each.index in of.worse else "",
            )
            for attack, of in self.by_attack.items()
            for each in of.per_class
        ]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        return frame.astype(dict.fromkeys(_COLUMNS[3:-1], "float64"))

    def plot(self, attack: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the difference of each class with its 95 % interval.

        Args:
            attack: default: that of the verdict.
            ax: where to draw; a new figure by default.

        Raises:
            UserError: matplotlib is missing, or not both met the attack.
        """
        attack = attack or self.attack
        if attack not in self.by_attack:
            known = did_you_mean(attack, self.by_attack)
            raise UserError(f"no attack that both met is called {attack!r}.{known}")
        return draw_differences(
            self.by_attack[attack], f"{self.second.name} − {self.first.name}", ax
        )

    def __repr__(self) -> str:
        found = self.comparison
        return (
            f"ComparisonReport({self.second.name} against {self.first.name} under {self.attack}, "
            f"{found.n} images: {found.verdict})"
        )


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
