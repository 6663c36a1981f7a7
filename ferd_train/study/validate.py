"""Finds before the first epoch whatever can be wrong with a study."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ferd_train.config.unfit import UnfitError
from ferd_train.distillation.run import (
    ImageSource,
    ShownImages,
    load_shown_images,
    student_run,
    validate_student,
)
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.distillation.teacher_fit import (
    Intention,
    caution,
    require_fit,
    require_same_images,
    require_student,
)
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import Evaluation, Study, TeacherSource
from ferd_train.study.status import CellState

#: What a study's folder says of itself.
STUDY_RECORD = "study.json"


def rehearse_study(
    study: Study,
    of_all: Sequence[CellState],
    wanted: Sequence[CellState],
    work: Path,
    *,
    device: str,
    data_dir: Path | None,
    download: bool,
) -> None:
    """Load every teacher and data set, build every student, look at every folder; write nothing.

    Args:
        study: what is asked for.
        of_all: its cells.
        wanted: those of them that are to be carried out.
        work: folder of the study.
        device, data_dir, download: as of ``ferd-train study``.

    Raises:
        UserError: something cannot work, or what the folder holds is of another study.
    """
    chosen = choose_device(device)
    with _placing(f"{study.file}: "):
        _require_same_measurement(study, work)
        images = [_images(each, data_dir, download=download) for each in study.evaluations]
        for source in study.teachers:
            _rehearse_teacher(source, of_all, wanted, study, images, chosen, data_dir, download)


def write_record(study: Study, work: Path) -> None:
    """Keep in the study's folder what evaluations mean there."""
    known = _read_record(work)
    record = {
        "title": study.title,
        "dataset": study.dataset,
        "evaluations": {**known.get("evaluations", {}), **_measurement(study)},
    }
    write_atomically(work / STUDY_RECORD, to_json(record).encode())


def _rehearse_teacher(
    source: TeacherSource,
    of_all: Sequence[CellState],
    wanted: Sequence[CellState],
    study: Study,
    images: Sequence[LabelledImages],
    device: DeviceChoice,
    data_dir: Path | None,
    download: bool,
) -> None:
    own = [state for state in of_all if state.cell.teacher == source]
    rows = {state.cell.row.name: state.cell.row for state in own if state.cell.row}
    load = cache(source.load)
    alone = [state for state in own if state.cell.row is None]
    if alone:
        with _placing(f"teachers.{source.name}: "):
            sizes = [row.recipe.image_size for row in rows.values()]
            teacher = load(sizes[0] if sizes else images[0].image_shape[1])
            _require_images(teacher, images)
            for state in alone:
                _require_same_teacher(state, teacher, study.evaluations)
    for row in rows.values():
        with _placing(f"{row.where}: teachers.{source.name}: "):
            intention = Intention(row.base, row.recipe, row.stated, study.dataset)
            teacher = _fitting_teacher(intention, load, images, data_dir, download=download)
            of_row = [state for state in own if state.cell.row == row and state in wanted]
            said = caution(intention, teacher, "to change that, write ", _as_table)
            if said and not all(state.is_trained() for state in of_row):
                print(f"warning: {row.where}: teachers.{source.name}: {said}", file=sys.stderr)
            shown = load_shown_images(row.recipe, teacher, ImageSource(data_dir, download))
            for state in own:
                # What is neither reported on nor continued may be as it likes.
                used = state in wanted or state.is_trained()
                if state.cell.row == row and used and state.run.exists():
                    _require_same_run(state, teacher, shown, device)


def _fitting_teacher(
    intention: Intention,
    load: Callable[[int], FrozenTeacher],
    images: Sequence[LabelledImages],
    data_dir: Path | None,
    *,
    download: bool,
) -> FrozenTeacher:
    """The teacher, once it is certain that a row's recipe and the images go with it.

    Raises:
        UserError: they do not; all that can be told at once is.
    """

    def begin(recipe: StudentRecipe, teacher: FrozenTeacher) -> None:
        shown = load_shown_images(recipe, teacher, ImageSource(data_dir, download))
        validate_student(recipe, teacher, shown)

    try:
        return require_fit(
            intention.recipe,
            load,
            lambda recipe, teacher: require_same_images(replace(intention, recipe=recipe), teacher),
            lambda recipe, teacher: require_student(recipe, teacher, StudentRecipe().arch),
            lambda recipe, teacher: _require_images(teacher, images),
            begin,
        )
    except UnfitError as unfit:
        raise UserError(unfit.advise("write ", _as_table)) from unfit


def _require_images(teacher: FrozenTeacher, images: Sequence[LabelledImages]) -> None:
    for each in images:
        teacher.require_same_kind(each, "dataset")


def _as_table(changes: Mapping[str, str]) -> str:
    """Fields as a study sets them."""
    fields = (f'"{name}" = "{value}"' for name, value in changes.items())
    return f"set = {{ {', '.join(fields)} }}"


def _require_same_run(
    state: CellState, teacher: FrozenTeacher, shown: ShownImages, device: DeviceChoice
) -> None:
    try:
        with _one_thread():
            student_run(state.cell.recipe, teacher, state.run, device=device, shown=shown)
    except UserError as reason:
        raise UserError(
            f"{reason} Or give the method another name, or remove {state.folder}."
        ) from reason


def _require_same_teacher(
    state: CellState, teacher: FrozenTeacher, evaluations: Sequence[Evaluation]
) -> None:
    digest = str(teacher.description["sha256"])
    for evaluation in evaluations:
        folder = state.evaluation(evaluation)
        before = look_up(read_manifest(folder) or {}, "checkpoint.sha256")
        if before not in (None, digest):
            raise UserError(
                f"{folder / RECORD} is of another file of the teacher {state.cell.teacher.name} "
                f"(sha256 {str(before)[:12]}, now {digest[:12]}). Give the teacher another name, "
                f"or remove {state.folder}."
            )
        key = look_up(read_manifest(folder) or {}, "checkpoint.key")
        if before is not None and key is not None and key != (teacher.key or ""):
            raise UserError(
                f"{folder / RECORD} is of another network in the file of the teacher "
                f"{state.cell.teacher.name} ({key}, now {teacher.key}). Give the teacher another "
                f"name, or remove {state.folder}."
            )


def _images(evaluation: Evaluation, data_dir: Path | None, *, download: bool) -> LabelledImages:
    with _placing(f"evaluations.{evaluation.name}: "):
        settings = replace(evaluation.settings, data_dir=data_dir, download=download)
        return read_inputs(settings).data


def _require_same_measurement(study: Study, work: Path) -> None:
    """A name of an evaluation stands for one way of measuring in a folder."""
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
    """What decides the outcomes of each evaluation, as JSON has it."""
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
def _one_thread() -> Iterator[None]:
    """As the processes have it that carry out cells: it is part of a run's record."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _placing(where: str) -> Iterator[None]:
    try:
        yield
    except UserError as reason:
        raise UserError(f"{where}{reason}") from reason
