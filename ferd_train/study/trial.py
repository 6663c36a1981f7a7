"""One trial: train its student, score it, notify of its progress. Output goes to its log."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from ferd_eval.errors import UserError
from ferd_eval.io.files import make_folder
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.pipeline import score_checkpoints
from ferd_eval.runtime.device import choose_device
from ferd_train.distillation.run import ImageSource, train_student
from ferd_train.distillation.teacher import teacher_file
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.study.definition import Evaluation, Trial
from ferd_train.study.status import LOG, RUN, TrialState


@dataclass(frozen=True)
class TrialTask:
    """A picklable trial, with its folder and device."""

    trial: Trial
    evaluations: tuple[Evaluation, ...]
    folder: Path
    data_dir: Path | None
    device: str
    classes: str | None = None
    class_order: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage begins: training, or an evaluation by its name."""

    name: str


@dataclass(frozen=True)
class Epoch:
    """An epoch of training is finished."""

    number: int
    of: int


@dataclass(frozen=True)
class Done:
    """The trial is finished."""


@dataclass(frozen=True)
class Failed:
    """The trial cannot be finished; `reason` is one line."""

    reason: str


Event = Stage | Epoch | Done | Failed
Notify = Callable[[Event], None]


def run_trial(task: TrialTask, notify: Notify) -> None:
    """Run the rest of a trial. Failures are notified, not raised."""
    try:
        make_folder(task.folder)
        with (
            (task.folder / LOG).open("a", encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                _stages(task, notify)
            except Exception:
                traceback.print_exc()
                raise
    except UserError as reason:
        notify(Failed(" ".join(str(reason).split())))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        notify(Failed(f"{said} (the traceback is in {task.folder / LOG})"))
    else:
        notify(Done())


def _stages(task: TrialTask, notify: Notify) -> None:
    state = TrialState(task.trial, task.folder)
    with teacher_file(task.trial.teacher.checkpoint) as file:
        if task.trial.row is not None:
            notify(Stage(RUN))
            file = _train(task, notify)
        for evaluation in task.evaluations:
            if not state.is_scored(evaluation):
                notify(Stage(evaluation.name))
                _score(task, evaluation, file)


def _train(task: TrialTask, notify: Notify) -> Path:
    def watch(log: StudentLog, epochs: int) -> None:
        notify(Epoch(log.epoch, epochs))

    recipe = task.trial.recipe
    return train_student(
        recipe,
        task.trial.teacher.load(recipe.image_size),
        task.folder / RUN,
        device=choose_device(task.device),
        source=ImageSource(task.data_dir, classes=task.classes, class_order=task.class_order),
        watch=watch,
    )


def _score(task: TrialTask, evaluation: Evaluation, network: Path) -> None:
    settings = replace(
        evaluation.settings,
        data_dir=task.data_dir,
        device=task.device,
        out=task.folder / evaluation.folder,
    )
    if task.trial.row is None:  # options of the teacher do not hold for the students
        reading = task.trial.teacher.reading
        key = load_checkpoint(network, role="teacher", key=reading.key).key
        settings = reading.settings(settings, key or None)
    score_checkpoints([network], settings, command=["ferd-train", *sys.argv[1:]], as_json=False)
