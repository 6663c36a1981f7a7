"""Distil students, score and report them: the work of ``student`` and ``demo``."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ferd_eval.attacks import plan_attacks
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.evaluate import as_threats
from ferd_eval.io.files import file_sha256
from ferd_eval.pipeline import score_checkpoints
from ferd_eval.report import render_terminal, view
from ferd_eval.report.api import report_folder
from ferd_eval.report.comparison.compare import verdict_on
from ferd_eval.results.manifest import look_up, read_manifest
from ferd_eval.results.run_folder import find_runs
from ferd_eval.runtime.console import console
from ferd_eval.runtime.progress import ProgressReporter, duration
from ferd_eval.runtime.signals import stopping_after
from ferd_train.distillation.plan import Scoring, StudentPlan
from ferd_train.distillation.run import (
    ImageSource,
    load_shown_images,
    student_run,
    train_student,
    validate_student,
)
from ferd_train.distillation.teacher import FrozenTeacher, TeacherReading, teacher_file
from ferd_train.distillation.teacher_fit import Intention, caution, fitting_teacher
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.monitoring.run_progress import watching
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.training.process_group import Workers, join
from ferd_train.training.seams import PATIENCE

#: Options with names of their own for fields of a recipe.
_RECIPE_OPTIONS = {"arch": "--student", "variant": "--variant", "ablation": "--ablation"}


@dataclass(frozen=True)
class Distilling:
    """One job. Fields are the options of ``ferd-train student``."""

    teacher: str
    recipe: str
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    score: bool = False
    dataset: str | None = None
    attacks: str = "paper"
    source: ImageSource = field(default_factory=ImageSource)
    reading: TeacherReading = field(default_factory=TeacherReading)
    device: str = "auto"
    dry_run: bool = False

    def folder(self, seed: int) -> Path:
        return self.out if len(self.seeds) < 2 else self.out / f"seed-{seed}"

    def command(self, changes: Mapping[str, Any]) -> str:
        """Its command line, with some fields of the recipe changed."""
        words = ["ferd-train", "student"]
        prefixes = {"source": "", "reading": "teacher-"}  # of options that are grouped
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.name == "changes":
                for name, setting in {**value, **changes}.items():
                    own = _RECIPE_OPTIONS.get(name)
                    words += [own, str(setting)] if own else ["--set", f"{name}={setting}"]
            elif each.name in prefixes:
                for name, setting in vars(value).items():
                    if setting != getattr(type(value)(), name):
                        words += _option(f"{prefixes[each.name]}{name}", setting)
            elif value != each.default:
                words += _option(each.name, value)
        return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """Its words on a command line."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [option, ",".join(map(str, value)) if several else str(value)]


def distil(job: Distilling, closing: Sequence[str] = ()) -> None:
    """Train a student for each seed, score them if asked to, and print the path of the result.

    All input is validated before the first epoch. Processes started together train together, and
    the first does the rest. `closing` is printed after the verdicts of scored students.
    """
    if job.dry_run:
        job = replace(job, source=replace(job.source, download=False))
    with teacher_file(job.teacher) as file:
        with join() as workers:
            recipe = find_student_recipe(job.recipe).with_changes(job.changes)
            seeds = job.seeds or (recipe.seed,)
            recipes = [recipe.with_changes({"seed": seed}) for seed in seeds]
            teacher = _fitting_teacher(job, recipe, file, workers)
            plan = _plan(job, recipes, teacher, workers)
            if job.dry_run:
                if workers.is_first:
                    print(*plan.lines(), sep="\n")
                return
            del plan  # with its images, which each run loads for itself
            shown = watching() if workers.is_first else nullcontext(ProgressReporter())
            with shown as reporter, stopping_after("step", PATIENCE):
                students = []
                for each in recipes:
                    device = workers.choose_device(job.device)
                    if workers.is_first:
                        where = f"{each.arch} on {device.device} ({device.reason})"
                        print(f"seed {each.seed}: {where}", file=sys.stderr)
                    student = train_student(
                        each,
                        teacher,
                        job.folder(each.seed),
                        device=device,
                        source=job.source,
                        watch=partial(_note_epoch, reporter),
                        reporter=reporter,
                        workers=workers,
                    )
                    students.append(student)
        if job.score and workers.is_first:
            _score(job, recipe, file, teacher, students)
            print(*_verdicts(job.out / "report", teacher, students), *closing, sep="\n")
            print(job.out / "report/report.html")
    if not job.score and workers.is_first:
        print(*students, sep="\n")


def _fitting_teacher(
    job: Distilling, recipe: StudentRecipe, file: Path, workers: Workers
) -> FrozenTeacher:
    """The teacher, if recipe, images and teacher fit.

    Raises:
        UserError: they do not; names everything that can be found at once.
    """
    intention = Intention(job.recipe, recipe, job.changes, job.dataset or "", "type: ", job.command)

    def look_at_images(mended: StudentRecipe, teacher: FrozenTeacher) -> None:
        with workers.in_turn():  # one of them may have to fetch the images
            shown = load_shown_images(mended, teacher, job.source)
            if job.score:
                _scoring(job, mended, teacher)
        validate_student(mended, teacher, shown, workers)

    load = cache(partial(job.reading.load, file))
    teacher = fitting_teacher(intention, load, find_student_recipe(job.recipe).arch, look_at_images)
    if workers.is_first:
        if teacher.description["choice"]:
            print(f"{file}: {teacher.description['choice']}", file=sys.stderr)
        warn_of_file(teacher)
        if said := caution(intention, teacher):
            print(f"warning: {said}", file=sys.stderr)
    return teacher


def warn_of_file(teacher: FrozenTeacher) -> None:
    """Warn of anything the teacher's file leaves open, in terms of this command's options."""
    said = re.sub("--(arch|normalize)", r"--teacher-\1", str(teacher.description["caution"]))
    if said:
        print(f"warning: teacher {teacher.description['name']}: {said}", file=sys.stderr)


def _plan(
    job: Distilling, recipes: Sequence[StudentRecipe], teacher: FrozenTeacher, workers: Workers
) -> StudentPlan:
    """The plan; the folders of all seeds are checked before any training.

    Raises:
        UserError: one holds another run.
    """
    device = workers.choose_device(job.device)
    with workers.in_turn():
        shown = load_shown_images(recipes[0], teacher, job.source)
    runs = [
        student_run(
            recipe, teacher, job.folder(recipe.seed), device=device, shown=shown, workers=workers
        )
        for recipe in recipes
    ]
    scoring = _scoring(job, recipes[0], teacher) if job.score else None
    return StudentPlan(job.recipe, recipes, runs, teacher, shown, device, scoring)


def _scoring(job: Distilling, recipe: StudentRecipe, teacher: FrozenTeacher) -> Scoring:
    """Images and attacks of the scoring.

    Raises:
        UserError: they are not available, or do not fit the teacher.
    """
    images = job.source.load(_scored_on(job, teacher), "test")
    teacher.require_same_kind(images, "--score")
    plan = plan_attacks(job.attacks.split(","), as_threats(str(recipe.eps), images))
    return Scoring(images, plan)


def _scored_on(job: Distilling, teacher: FrozenTeacher) -> str:
    dataset = job.dataset or teacher.dataset
    if not dataset:
        raise UserError(
            "what to score on is not known, for the teacher's file does not say what it was "
            "trained on; give --dataset."
        )
    return dataset


def _score(
    job: Distilling,
    recipe: StudentRecipe,
    file: Path,
    teacher: FrozenTeacher,
    students: Sequence[Path],
) -> None:
    """Attack students and teacher alike, and report them together."""
    report = job.out / "report"
    settings = EvalConfig(
        dataset=_scored_on(job, teacher),
        **vars(job.source),
        attacks=job.attacks,
        eps=str(recipe.eps),
        device=job.device,
        out=report,
    )
    of_teacher = job.reading.settings(settings, teacher.key)
    groups = [([*students, file], settings)]
    if of_teacher != settings:  # options of the teacher do not hold for the students
        groups = [(list(students), settings), ([file], of_teacher)]
    for files, each in groups:
        score_checkpoints(
            files,
            each,
            command=["ferd-train", *sys.argv[1:]],
            as_json=False,
            folder_per_checkpoint=True,
        )
    if len(groups) > 1:
        runs, pages = report_folder(report)
        console().print(render_terminal(view(runs)))
        print(*pages, sep="\n")


def _verdicts(report: Path, teacher: FrozenTeacher, students: Sequence[Path]) -> Iterator[str]:
    """A sentence on each student against the teacher."""
    runs = {
        look_up(read_manifest(run) or {}, "checkpoint.sha256"): run
        for run in find_runs(report).runs
    }
    for student in students:
        try:
            yield verdict_on(runs[teacher.description["sha256"]], runs[file_sha256(student)])
        except UserError as reason:
            yield f"no verdict on {student}: {reason}"


def _note_epoch(reporter: ProgressReporter, log: StudentLog, epochs: int) -> None:
    heaviest = max(range(len(log.class_weights)), key=log.class_weights.__getitem__)
    parts = [f"epoch {log.epoch}/{epochs}"]
    if log.generator_loss is not None:
        parts += [
            f"images: loss {log.generator_loss:.2f}, as asked {log.teacher_agrees:.0%}",
            f"heaviest class {heaviest} ({log.class_weights[heaviest]:.2f})",
        ]
    if log.student_loss is not None:
        parts.append(f"student: loss {log.student_loss:.3f}, as teacher {log.student_agrees:.0%}")
    if log.held_out is not None:
        clean, pgd = log.held_out["clean"], log.held_out["pgd"]
        parts.append(f"held out: as teacher {clean:.0%}, PGD-10 {pgd:.0%}")
    if log.validation is not None:
        clean, pgd = log.validation["clean"], log.validation["pgd"]
        parts.append(f"validation: clean {clean:.1%}, PGD-10 {pgd:.1%}")
    parts.append(duration(log.seconds))
    if log.student_loss is not None:  # a warm-up epoch says nothing of the others
        parts.append(f"{duration(log.seconds * (epochs - log.epoch))} left")
    reporter.note("  ".join(parts))
