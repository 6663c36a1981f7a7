"""One cell: train its student, score it, and tell how it goes. What it prints is in its log."""

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
from ferd_train.study.definition import Cell, Evaluation
from ferd_train.study.status import LOG, RUN, CellState


@dataclass(frozen=True)
class Task:
    """A cell and what it needs to know of the machine."""

    cell: Cell
    evaluations: tuple[Evaluation, ...]
    folder: Path
    data_dir: Path | None
    device: str


@dataclass(frozen=True)
class Stage:
    """A stage of a task begins: training, or an evaluation by its name."""

    name: str


@dataclass(frozen=True)
class Epoch:
    """An epoch of training is finished."""

    number: int
    of: int


@dataclass(frozen=True)
class Done:
    """Nothing of the task is left."""


@dataclass(frozen=True)
class Failed:
    """The task cannot be finished; `reason` is one line."""

    reason: str


Event = Stage | Epoch | Done | Failed
Tell = Callable[[Event], None]


def carry_out(task: Task, tell: Tell) -> None:
    """Do what is left of a cell. Whatever goes wrong is told, not raised."""
    try:
        make_folder(task.folder)
        with (
            (task.folder / LOG).open("a", encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                _stages(task, tell)
            except Exception:
                traceback.print_exc()
                raise
    except UserError as reason:
        tell(Failed(" ".join(str(reason).split())))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        tell(Failed(f"{said} (the traceback is in {task.folder / LOG})"))
    else:
        tell(Done())


def _stages(task: Task, tell: Tell) -> None:
    state = CellState(task.cell, task.folder)
    with teacher_file(task.cell.teacher.checkpoint) as file:
        if task.cell.row is not None:
            tell(Stage(RUN))
            file = _train(task, tell)
        for evaluation in task.evaluations:
            if not state.is_scored(evaluation):
                tell(Stage(evaluation.name))
                _score(task, evaluation, file)


def _train(task: Task, tell: Tell) -> Path:
    def watch(log: StudentLog, epochs: int) -> None:
        tell(Epoch(log.epoch, epochs))

    recipe = task.cell.recipe
    return train_student(
        recipe,
        task.cell.teacher.load(recipe.image_size),
        task.folder / RUN,
        device=choose_device(task.device),
        source=ImageSource(task.data_dir),
        watch=watch,
    )


def _score(task: Task, evaluation: Evaluation, network: Path) -> None:
    settings = replace(
        evaluation.settings,
        data_dir=task.data_dir,
        device=task.device,
        out=task.folder / evaluation.folder,
    )
    if task.cell.row is None:  # what a user says of the teacher does not hold for the students
        teacher = task.cell.teacher
        settings = replace(
            settings,
            key=load_checkpoint(network, role="teacher", key=teacher.key).key or None,
            arch=teacher.arch,
            model_file=teacher.model_file,
            normalize=teacher.normalize,
        )
    score_checkpoints([network], settings, command=["ferd-train", *sys.argv[1:]], as_json=False)
