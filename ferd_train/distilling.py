"""What ``student`` and ``demo`` do once torch may be loaded."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ferd_eval.attacks import plan_attacks
from ferd_eval.cli.reporting import report_folder
from ferd_eval.cli.scoring import score_checkpoints
from ferd_eval.cli.settings import ScoreSettings
from ferd_eval.datasets import load_dataset
from ferd_eval.errors import UserError
from ferd_eval.interruption import after_what_is_at_hand
from ferd_eval.progress import duration
from ferd_eval.runner import as_threats
from ferd_train.frozen_teacher import FrozenTeacher, load_teacher, teacher_file
from ferd_train.recipes import find_student_recipe
from ferd_train.student import train_student
from ferd_train.student_recipe import StudentRecipe
from ferd_train.student_training import StudentLog
from ferd_train.workers import Workers, join


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
    data_dir: Path | None = None
    download: bool = False
    arch: str | None = None
    model_file: str | None = None
    normalize: str = "auto"
    device: str = "auto"


def distil(job: Distilling) -> None:
    """Train a student for each seed, score them if asked to, and print the path of the result.

    Everything that can be wrong with the input is found before the first epoch. Where several
    processes were started together, they train together and the first does the rest.
    """
    with teacher_file(job.teacher) as file:
        with join() as workers:
            recipe = find_student_recipe(job.recipe).with_changes(job.changes)
            seeds = job.seeds or (recipe.seed,)
            recipes = [recipe.with_changes({"seed": seed}) for seed in seeds]
            teacher = load_teacher(
                file,
                recipe.image_size,
                arch=job.arch,
                model_file=job.model_file,
                normalize=job.normalize,
            )
            if workers.is_first:
                _caution(teacher)
            with workers.in_turn():  # one of them may have to fetch the images
                dataset = _scored_on(job, recipe, teacher) if job.score else None
            # Several processes cannot agree on what is at hand: they stop at once.
            with after_what_is_at_hand("epoch") if workers.count == 1 else nullcontext():
                students = [_train(each, teacher, job, len(recipes), workers) for each in recipes]
        if dataset is not None and workers.is_first:
            _score(job, recipe, file, students, dataset)
    if dataset is None and workers.is_first:
        print(*students, sep="\n")


def _caution(teacher: FrozenTeacher) -> None:
    """Say what the teacher's file does not tell, with the options of this command."""
    said = re.sub("--(arch|normalize)", r"--teacher-\1", str(teacher.description["caution"]))
    if said:
        print(f"warning: teacher {teacher.description['name']}: {said}", file=sys.stderr)


def _scored_on(job: Distilling, recipe: StudentRecipe, teacher: FrozenTeacher) -> str:
    """The data set to score on, once it is certain that this will be possible."""
    dataset = job.dataset or teacher.dataset
    if not dataset:
        raise UserError(
            "what to score on is not known, for the teacher's file does not say what it was "
            "trained on; give --dataset."
        )
    images = load_dataset(dataset, job.data_dir, download=job.download)
    teacher.require_same_kind(images, "--score")
    plan_attacks(job.attacks.split(","), as_threats(str(recipe.eps), images))
    return dataset


def _train(
    recipe: StudentRecipe, teacher: FrozenTeacher, job: Distilling, runs: int, workers: Workers
) -> Path:
    device = workers.choose_device(job.device)
    if workers.is_first:
        name = f"seed {recipe.seed}: {recipe.arch} on {device.device} ({device.reason})"
        print(name, file=sys.stderr)
    return train_student(
        recipe,
        teacher,
        job.out if runs == 1 else job.out / f"seed-{recipe.seed}",
        device=device,
        data_dir=job.data_dir,
        download=job.download,
        watch=_print_epoch,
        workers=workers,
    )


def _score(
    job: Distilling,
    recipe: StudentRecipe,
    teacher: Path,
    students: Sequence[Path],
    dataset: str,
) -> None:
    """Attack students and teacher alike, with one report over all."""
    report = job.out / "report"
    settings = ScoreSettings(
        dataset=dataset,
        data_dir=job.data_dir,
        download=job.download,
        attacks=job.attacks,
        eps=str(recipe.eps),
        device=job.device,
        out=report,
    )
    of_teacher = replace(
        settings, arch=job.arch, model_file=job.model_file, normalize=job.normalize
    )
    groups = [([*students, teacher], settings)]
    if of_teacher != settings:  # what a user says of the teacher does not hold for the students
        groups = [(list(students), settings), ([teacher], of_teacher)]
    for files, each in groups:
        score_checkpoints(
            files,
            each,
            command=["ferd-train", *sys.argv[1:]],
            as_json=False,
            folder_per_checkpoint=True,
        )
    if len(groups) > 1:
        report_folder(report, None, as_json=False)


def _print_epoch(log: StudentLog, epochs: int) -> None:
    heaviest = max(range(len(log.class_weights)), key=log.class_weights.__getitem__)
    parts = [f"epoch {log.epoch}/{epochs}"]
    if log.generator_loss is not None:
        parts += [
            f"images: loss {log.generator_loss:.2f}, as asked {log.teacher_agrees:.0%}",
            f"heaviest class {heaviest} ({log.class_weights[heaviest]:.2f})",
        ]
    if log.student_loss is not None:
        parts.append(f"student: loss {log.student_loss:.3f}, as teacher {log.student_agrees:.0%}")
    if log.validation is not None:
        clean, pgd = log.validation["clean"], log.validation["pgd"]
        parts.append(f"validation: clean {clean:.1%}, PGD-10 {pgd:.1%}")
    parts.append(duration(log.seconds))
    if log.student_loss is not None:  # a warm-up epoch does not tell how long the others take
        parts.append(f"{duration(log.seconds * (epochs - log.epoch))} left")
    print("  ".join(parts), file=sys.stderr)
