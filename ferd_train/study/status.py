"""Progress of a study, read from its folder alone: finished stages, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.io.files import write_atomically
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.io.lock import now
from ferd_eval.results.manifest import look_up, read_manifest
from ferd_eval.results.outcomes import OUTCOMES
from ferd_eval.runtime.progress import duration
from ferd_train.study.definition import Evaluation, Study, Trial

#: In a trial's folder: its training run, why it failed, and the output of its process.
RUN, FAILURE, LOG = "run", "failure.json", "log.txt"


@dataclass(frozen=True)
class TrainingTime:
    """Wall clock of the epochs so far, in seconds."""

    epochs: int
    making: float
    learning: float

    @property
    def total(self) -> float:
        """Without validation."""
        return self.making + self.learning


@dataclass(frozen=True)
class TrialState:
    """A trial as its folder, which need not exist, shows it."""

    trial: Trial
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / RUN

    def is_trained(self) -> bool:
        """Whether there is a network to score."""
        return self.trial.row is None or self._trained_network() is not None

    def is_scored(self, evaluation: Evaluation) -> bool:
        """Whether this network's outcomes are complete."""
        folder = self.evaluation(evaluation)
        record = _record(folder)
        if record.get("status") != "finished" or not (folder / OUTCOMES).is_file():
            return False
        network = look_up(record, "checkpoint.sha256")
        return self.trial.row is None or network == self._trained_network()

    def evaluation(self, evaluation: Evaluation) -> Path:
        return self.folder / evaluation.folder

    def left(self, evaluations: tuple[Evaluation, ...]) -> tuple[str, ...]:
        """Stages that are not finished, by their folders."""
        training = () if self.is_trained() else (RUN,)
        scoring = tuple(each.folder for each in evaluations if not self.is_scored(each))
        return training + scoring

    def failure(self) -> str | None:
        """Why it failed the last time, in a sentence; None if it did not."""
        try:
            said = parse_json((self.folder / FAILURE).read_text(encoding="utf-8"))["reason"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "it failed, and the reason cannot be read"
        return str(said)

    def fail(self, reason: str) -> None:
        if self.folder.is_dir():
            content = to_json({"reason": reason, "when": now()})
            write_atomically(self.folder / FAILURE, content.encode())

    def succeed(self) -> None:
        (self.folder / FAILURE).unlink(missing_ok=True)

    def training_time(self) -> TrainingTime:
        lines = []
        try:
            with (self.run / "metrics.jsonl").open(encoding="utf-8") as stream:
                lines = [parse_json(line) for line in stream]
        except (OSError, ValueError):
            pass
        return TrainingTime(
            len(lines),
            sum(float(line.get("seconds_making", 0)) for line in lines),
            sum(float(line.get("seconds_learning", 0)) for line in lines),
        )

    def scoring_seconds(self, evaluation: Evaluation) -> float:
        cost = _record(self.evaluation(evaluation)).get("cost") or {}
        return sum(float(each.get("seconds") or 0) for each in cost.values())

    def _trained_network(self) -> str | None:
        record = _record(self.run)
        finished = record.get("status") == "finished"
        digest = look_up(record, "result.sha256")
        return digest if finished and isinstance(digest, str) else None


def states(study: Study, work: Path) -> tuple[TrialState, ...]:
    """Of all trials, in their order."""
    return tuple(TrialState(trial, work / trial.path) for trial in study.trials)


def _record(folder: Path) -> Mapping[str, Any]:
    """A run's record; empty if missing or damaged, which its own command reports."""
    try:
        return read_manifest(folder, frozenset({"status"})) or {}
    except UserError:
        return {}


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
