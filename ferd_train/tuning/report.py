"""The trials in the order of their figures: a table, a record, and what may be said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ferd_eval.report.terminal import plain_table
from ferd_eval.runtime.progress import duration
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.tuning.figures import Figure
from ferd_train.tuning.trials import Candidate

#: How many of the best are told apart in words.
_TOLD = 3


@dataclass(frozen=True)
class Outcome:
    """What is known of a trial.

    Attributes:
        log, figure: of the last epoch; None unless it is finished.
        reason: why it failed, if it did.
    """

    of: Candidate
    log: StudentLog | None
    figure: float | None
    seconds: float
    reason: str | None

    @classmethod
    def read(cls, candidate: Candidate, figure: Figure) -> Outcome:
        """From its folder."""
        log = candidate.last_log()
        return cls(
            candidate,
            log,
            None if log is None else figure.of(log),
            candidate.state.training_time().total,
            candidate.state.failure() if log is None else None,
        )

    @property
    def status(self) -> str:
        if self.log is not None:
            return "finished"
        return "waiting" if self.reason is None else "failed"

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.of.number,
            "values": self.of.values,
            "status": self.status,
            "figure": self.figure,
            "validation": None if self.log is None else self.log.validation,
            "seconds": self.seconds,
            "reason": self.reason,
            "run": f"{self.of.state.folder.name}/{self.of.state.run.name}",
        }


@dataclass(frozen=True)
class Ranking:
    """All trials, the best first; those without a figure last.

    Attributes:
        about: what the figure is.
        repeats: trials that draw what an earlier one has, and are not run.
    """

    outcomes: Sequence[Outcome]
    about: str
    repeats: Mapping[int, int]

    @classmethod
    def of(
        cls, candidates: Sequence[Candidate], figure: Figure, about: str, repeats: Mapping[int, int]
    ) -> Ranking:
        """As the folders show them."""
        return cls.ordered([Outcome.read(each, figure) for each in candidates], about, repeats)

    @classmethod
    def ordered(
        cls, outcomes: Sequence[Outcome], about: str, repeats: Mapping[int, int]
    ) -> Ranking:
        """Of equals the earlier one, and so above all the recipe unchanged."""
        return cls(sorted(outcomes, key=_standing), about, repeats)

    @property
    def finished(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.figure is not None]

    @property
    def failed(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.reason is not None]

    @property
    def best(self) -> Outcome | None:
        return next(iter(self.finished), None)

    @property
    def unchanged(self) -> Outcome | None:
        """Trial 0, if it is finished."""
        return next((each for each in self.finished if each.of.number == 0), None)

    def ahead(self, other: Outcome) -> float:
        """How far the best is ahead of another finished trial."""
        assert self.best is not None
        assert self.best.figure is not None
        assert other.figure is not None
        return self.best.figure - other.figure

    def to_json(self) -> dict[str, Any]:
        unchanged = self.unchanged
        return {
            "figure": self.about,
            "winner": None if self.best is None else self.best.of.number,
            "ahead_of_unchanged": None if unchanged is None else self.ahead(unchanged),
            "trials": [each.to_json() for each in self.outcomes],
            "repeats": {str(number): first for number, first in self.repeats.items()},
        }

    def table(self) -> RenderableType:
        """At 80 columns, with what may be said of it below."""
        table = plain_table()
        table.add_column("Trial", justify="right", no_wrap=True)
        table.add_column("Values")
        for heading in ("Clean", "PGD-10", "Worst", "Figure", "Time"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in self.outcomes:
            known = {} if each.log is None else each.log.validation or {}
            shown = [known.get(name) for name in ("clean", "pgd", "pgd_worst_class")]
            style = "bold" if each is self.best else ""
            cells = [
                str(each.of.number),
                each.of.words,
                *(_percent(value) for value in shown),
                each.status if each.figure is None else _percent(each.figure),
                duration(each.seconds),
            ]
            table.add_row(*(Text(cell, style=style) for cell in cells))
        return Group(table, Text(), *(Text(line) for line in self._said()))

    def _said(self) -> Iterator[str]:
        if self.repeats:
            pairs = ", ".join(f"{number} ({first})" for number, first in self.repeats.items())
            yield f"Drawn twice, not trained again: trial {pairs}."
        best = self.best
        if best is None:
            yield "No trial is finished, so none is best."
            return
        yield f"Figure: {self.about}; in percent, differences in points."
        if best.of.number == 0:
            yield f"Best is the recipe unchanged: {_percent(best.figure)}."
        else:
            compared = "the recipe unchanged has no figure to compare with"
            if self.unchanged is not None:
                compared = (
                    f"{_points(self.ahead(self.unchanged))} above the recipe unchanged (trial 0)"
                )
            yield f"Best is trial {best.of.number}: {_percent(best.figure)}, {compared}."
        if others := self.finished[1:_TOLD]:
            behind = (f"trial {each.of.number} by {_points(self.ahead(each))}" for each in others)
            yield f"Next behind it: {', '.join(behind)}."
        yield (
            "One seed each cannot tell such differences from noise unless they exceed the spread "
            "over seeds: train the recipe and best.toml with --seeds 1,2,3 before claiming one."
        )


def _standing(outcome: Outcome) -> tuple[bool, float, int]:
    return outcome.figure is None, -(outcome.figure or 0.0), outcome.of.number


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
