"""Time left of a study, from the trials that are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import mean

from ferd_eval.runtime.progress import duration
from ferd_train.study.definition import Evaluation
from ferd_train.study.status import TrialState


def time_left(expected: Sequence[float | None], jobs: int) -> str:
    """In words, from `expected_seconds`, with so many trials at once."""
    known = [each for each in expected if each is not None]
    if len(known) < len(expected) and not sum(known):
        return "time left not known yet"
    about = "about" if len(known) == len(expected) else "at least"
    return f"{about} {duration(sum(known) / jobs)} left"


def expected_seconds(
    left: Sequence[TrialState], of_all: Sequence[TrialState], evaluations: Sequence[Evaluation]
) -> list[float | None]:
    """Of each stage left: as the same row's, else any row's; None if there is none."""
    expected = [_training(state, of_all) for state in left if not state.is_trained()]
    for evaluation in evaluations:
        scored = [state for state in of_all if state.is_scored(evaluation)]
        seconds = partial(TrialState.scoring_seconds, evaluation=evaluation)
        expected += [
            _like(state, scored, seconds) for state in left if not state.is_scored(evaluation)
        ]
    return expected


def _training(state: TrialState, of_all: Iterable[TrialState]) -> float | None:
    """Seconds of the epochs left, from those of this run, else from other runs."""
    assert state.trial.row is not None
    epochs, warmup = state.trial.row.recipe.epochs, state.trial.row.recipe.warmup
    time = state.training_time()
    if time.epochs > warmup:
        making = time.making / time.epochs
        learning = time.learning / (time.epochs - warmup)
        return (making + learning) * (epochs - time.epochs)
    trained = [each for each in of_all if each.trial.row is not None and each.is_trained()]
    whole = _like(state, trained, lambda each: each.training_time().total)
    return None if whole is None else whole * (1 - time.epochs / epochs)


def _like(
    state: TrialState, finished: Sequence[TrialState], seconds: Callable[[TrialState], float]
) -> float | None:
    """Mean over the same row of the same teacher, else the same row, else all."""
    of_row = [each for each in finished if each.trial.row_name == state.trial.row_name]
    of_teacher = [each for each in of_row if each.trial.teacher == state.trial.teacher]
    similar = of_teacher or of_row or finished
    return mean(map(seconds, similar)) if similar else None
