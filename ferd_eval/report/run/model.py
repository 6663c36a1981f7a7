"""Types of a run's report; `build` makes them, every format renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferd_eval.metrics import Check, ClassScore, Scorecard, Scores, scorecard
from ferd_eval.report.format import Table
from ferd_eval.results.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Run:
    """One scored checkpoint under the name that reports give it."""

    name: str
    scorecard: Scorecard
    manifest: Mapping[str, Any]


def as_run(name: str, outcomes: Outcomes) -> Run:
    """Outcomes with their figures."""
    groups = outcomes.manifest.get("groups") or {}
    card = scorecard(outcomes, {name: tuple(names) for name, names in groups.items()} or None)
    return Run(name, card, outcomes.manifest)


@dataclass(frozen=True, eq=False)
class AttackView:
    """One attack over the classes (or groups) of one run."""

    id: str
    scores: Scores

    @property
    def possibly_worst(self) -> tuple[str, ...] | None:
        """Names of the classes that cannot be excluded as the lowest, the lowest first.

        None where that is not known.
        """
        places = self.scores.possibly_worst
        return None if places is None else tuple(self.scores.per_class[i].name for i in places)

    @property
    def lowest_first(self) -> list[ClassScore]:
        """Classes by accuracy, those without images last."""
        return sorted(
            self.scores.per_class,
            key=lambda each: (each.accuracy is None, each.accuracy or 0.0, each.index),
        )

    def is_suspect(self, each: ClassScore) -> bool | None:
        """Whether a class cannot be excluded as the lowest; None where that is not known."""
        places = self.scores.possibly_worst
        return each.index in places if places is not None and each.n else None

    def clean(self, each: ClassScore) -> float | None:
        """A class's accuracy without the attack; None where that is not known."""
        if each.accuracy is None or each.drop is None:
            return None
        return each.accuracy + each.drop


@dataclass(frozen=True, eq=False)
class RunView:
    """One run, ready to print.

    Attributes:
        sentences: the run in brief, for a reader who reads nothing else.
        headline: id of the strongest attack within the threat model, of several runs the
            strongest that all met; None where none was run.
        checks: of the attacks, warnings first; the trust table holds the same.
        tables: part of the report → its tables, in reading order; a part may have none.
    """

    source: Run
    sentences: tuple[str, ...]
    headline: str | None
    attacks: Mapping[str, AttackView]
    groups: Mapping[str, Mapping[str, AttackView]]
    checks: tuple[Check, ...]
    tables: Mapping[str, tuple[Table, ...]]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """By index."""
        return tuple(self.source.scorecard.dataset["class_names"])

    @property
    def shown(self) -> AttackView:
        """The attack that charts open with: the headline, else the first one run."""
        return self.attacks[self.headline or next(iter(self.attacks))]


@dataclass(frozen=True, eq=False)
class View:
    """A report over one or several runs.

    Attributes:
        side_by_side: each class under one attack that all runs met; None where there is none.
        side_lines: for each class in it, the lowest of the first run first, the scores of each run.
    """

    title: str
    runs: tuple[RunView, ...]
    summary: Table
    side_by_side: Table | None
    side_lines: tuple[tuple[ClassScore, ...], ...]
