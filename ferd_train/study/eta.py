"""How long the rest of a study takes, by what is finished of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from ferd_eval.runtime.progress import duration
from ferd_train.study.definition import Evaluation
from ferd_train.study.status import CellState


@dataclass(frozen=True)
class Forecast:
    """Seconds of work that is left, as far as anything like it has been done.

    Attributes:
        unknown: stages of which nothing alike is finished.
    """

    seconds: float
    unknown: int

    def words(self, jobs: int) -> str:
        """With so many cells at once."""
        if self.unknown and not self.seconds:
            return "time left not known yet"
        about = "at least" if self.unknown else "about"
        return f"{about} {duration(self.seconds / jobs)} left"


def forecast(
    left: Sequence[CellState], of_all: Sequence[CellState], evaluations: Sequence[Evaluation]
) -> Forecast:
    """Expect of each stage what the same row took, else what any took.

    Args:
        left: cells to be finished.
        of_all: cells to learn from.
        evaluations: of each cell.
    """
    expected: list[float | None] = [
        _training(state, of_all) for state in left if not state.is_trained()
    ]
    for evaluation in evaluations:
        finished = [state for state in of_all if state.is_scored(evaluation)]

        def seconds(state: CellState, evaluation: Evaluation = evaluation) -> float:
            return state.scoring_seconds(evaluation)

        expected += [
            _like(state, finished, seconds) for state in left if not state.is_scored(evaluation)
        ]
    known = [each for each in expected if each is not None]
    return Forecast(sum(known), len(expected) - len(known))


def _training(state: CellState, of_all: Iterable[CellState]) -> float | None:
    """What is left of the epochs, by those of this run, else by other runs'."""
    assert state.cell.row is not None
    epochs, warmup = state.cell.row.recipe.epochs, state.cell.row.recipe.warmup
    time = state.training_time()
    if time.epochs > warmup:
        making = time.making / time.epochs
        learning = time.learning / (time.epochs - warmup)
        return (making + learning) * (epochs - time.epochs)
    begun = [each for each in of_all if each.cell.row is not None and each.is_trained()]
    whole = _like(state, begun, lambda each: each.training_time().total)
    return None if whole is None else whole * (1 - time.epochs / epochs)


def _like(
    state: CellState, finished: Iterable[CellState], seconds: Callable[[CellState], float]
) -> float | None:
    """Mean over the same row of the same teacher, else the same row, else all."""
    own = state.cell.row and state.cell.row.name
    of_all = [*finished]
    of_row = [each for each in of_all if (each.cell.row and each.cell.row.name) == own]
    of_teacher = [each for each in of_row if each.cell.teacher == state.cell.teacher]
    for group in (of_teacher, of_row, of_all):
        if group:
            return mean(map(seconds, group))
    return None
