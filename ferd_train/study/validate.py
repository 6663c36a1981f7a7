"""Validates a study before its first epoch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.evaluation.inputs import read_inputs
from ferd_eval.io.files import write_atomically
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.results.manifest import RECORD, look_up, read_manifest
from ferd_eval.runtime.device import DeviceChoice, choose_device
from ferd_train.distillation.run import (
    ImageSource,
    ShownImages,
    load_shown_images,
    student_run,
    validate_student,
)
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.distillation.teacher_fit import Intention, caution, fitting_teacher
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import Evaluation, Study, TeacherSource
from ferd_train.study.status import TrialState

#: The record of a study in its folder.
STUDY_RECORD = "study.json"


def validate_study(
    study: Study,
    of_all: Sequence[TrialState],
    wanted: Sequence[TrialState],
    work: Path,
    *,
    device: str,
    data_dir: Path | None,
    download: bool,
) -> None:
    """Load every teacher and data set, build every student, check every folder; write nothing.

    Of the trials, only those in `wanted` will be run.

    Raises:
        UserError: something cannot work, or the folder holds another study.
    """
    chosen = choose_device(device)
    with placing(f"{study.file}: "):
        _require_same_measurement(study, work)
        data = ImageSource(data_dir, download)
        images = [_images(each, data) for each in study.evaluations]
        for source in study.teachers:
            _validate_teacher(source, of_all, wanted, study, images, chosen, data)


def write_record(study: Study, work: Path) -> None:
    """Record in the study's folder how evaluations measure."""
    known = _read_record(work)
    record = {
        "title": study.title,
        "dataset": study.dataset,
        "evaluations": {**known.get("evaluations", {}), **_measurement(study)},
    }
    write_atomically(work / STUDY_RECORD, to_json(record).encode())


def _validate_teacher(
    source: TeacherSource,
    of_all: Sequence[TrialState],
    wanted: Sequence[TrialState],
    study: Study,
    images: Sequence[LabelledImages],
    device: DeviceChoice,
    data: ImageSource,
) -> None:
    own = [state for state in of_all if state.trial.teacher == source]
    rows = {state.trial.row.name: state.trial.row for state in own if state.trial.row}
    load = cache(source.load)
    alone = [state for state in own if state.trial.row is None]
    if alone:
        with placing(f"teachers.{source.name}: "):
            sizes = [row.recipe.image_size for row in rows.values()]
            teacher = load(sizes[0] if sizes else images[0].image_shape[1])
            _require_images(teacher, images)
            for state in alone:
                _require_same_teacher(state, teacher, study.evaluations)

    def look_at_images(recipe: StudentRecipe, teacher: FrozenTeacher) -> None:
        _require_images(teacher, images)

    def begin(recipe: StudentRecipe, teacher: FrozenTeacher) -> None:
        validate_student(recipe, teacher, load_shown_images(recipe, teacher, data))

    usual = StudentRecipe().arch
    for row in rows.values():
        with placing(f"{row.where}: teachers.{source.name}: "):
            intention = Intention(
                row.base, row.recipe, row.stated, study.dataset, "write ", _as_table
            )
            teacher = fitting_teacher(intention, load, usual, look_at_images, begin)
            of_row = [state for state in own if state.trial.row == row and state in wanted]
            said = caution(intention, teacher)
            if said and not all(state.is_trained() for state in of_row):
                print(f"warning: {row.where}: teachers.{source.name}: {said}", file=sys.stderr)
            shown = load_shown_images(row.recipe, teacher, data)
            for state in own:
                # A run that is neither reported on nor continued may differ.
                used = state in wanted or state.is_trained()
                if state.trial.row == row and used and state.run.exists():
                    _require_same_run(state, teacher, shown, device)


def _require_images(teacher: FrozenTeacher, images: Sequence[LabelledImages]) -> None:
    for each in images:
        teacher.require_same_kind(each, "dataset")


def _as_table(changes: Mapping[str, str]) -> str:
    fields = (f'"{name}" = "{value}"' for name, value in changes.items())
    return f"set = {{ {', '.join(fields)} }}"


def _require_same_run(
    state: TrialState, teacher: FrozenTeacher, shown: ShownImages, device: DeviceChoice
) -> None:
    try:
        with one_thread():
            student_run(state.trial.recipe, teacher, state.run, device=device, shown=shown)
    except UserError as reason:
        raise UserError(
            f"{reason} Or give the method another name, or remove {state.folder}."
        ) from reason


def _require_same_teacher(
    state: TrialState, teacher: FrozenTeacher, evaluations: Sequence[Evaluation]
) -> None:
    digest, name = str(teacher.description["sha256"]), state.trial.teacher.name
    for evaluation in evaluations:
        folder = state.evaluation(evaluation)
        before = look_up(read_manifest(folder) or {}, "checkpoint.sha256")
        key = look_up(read_manifest(folder) or {}, "checkpoint.key")
        other = ""
        if before not in (None, digest):
            other = (
                f"another file of the teacher {name} (sha256 {str(before)[:12]}, now {digest[:12]})"
            )
        elif before is not None and key is not None and key != (teacher.key or ""):
            other = f"another network in the file of the teacher {name} ({key}, now {teacher.key})"
        if other:
            raise UserError(
                f"{folder / RECORD} is of {other}. Give the teacher another name, or remove "
                f"{state.folder}."
            )


def _images(evaluation: Evaluation, data: ImageSource) -> LabelledImages:
    with placing(f"evaluations.{evaluation.name}: "):
        settings = evaluation.settings
        settings = replace(settings, data_dir=data.data_dir, download=data.download)
        return read_inputs(settings).data


def _require_same_measurement(study: Study, work: Path) -> None:
    """In a folder, an evaluation's name stands for one way of measuring."""
    record = _read_record(work)
    if record and record["dataset"] != study.dataset:
        raise UserError(
            f"{work} holds a study on {record['dataset']}, now dataset is {study.dataset}. Choose "
            "another folder with --work."
        )
    for name, now in _measurement(study).items():
        before = record.get("evaluations", {}).get(name, now)
        for key, value in now.items():
            if before.get(key) != value:
                raise UserError(
                    f"evaluations.{name}: {key} is {value} now and was {before.get(key)} in "
                    f"{work}. Give the evaluation another name, or choose another folder with "
                    "--work."
                )


def _measurement(study: Study) -> dict[str, dict[str, Any]]:
    """The settings that decide the outcomes of each evaluation, as JSON has them."""
    return {
        each.name: json.loads(to_json(vars(replace(each.settings, dataset=None))))
        for each in study.evaluations
    }


def _read_record(work: Path) -> Mapping[str, Any]:
    file = work / STUDY_RECORD
    try:
        record = parse_json(file.read_text(encoding="utf-8"))
        is_record = isinstance(record["evaluations"], dict) and "dataset" in record
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        is_record = False
    if not is_record:
        raise UserError(f"{file} is damaged. Restore it, or choose another folder with --work.")
    return dict(record)


@contextmanager
def one_thread() -> Iterator[None]:
    """As in the processes that run trials: the number is part of a run's record."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def placing(where: str) -> Iterator[None]:
    """Mistakes begin with their place."""
    try:
        yield
    except UserError as reason:
        raise UserError(f"{where}{reason}") from reason
