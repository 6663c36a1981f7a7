"""A study: teachers × methods × losses × seeds, and how every network is scored.

A *row* is a line of the tables: a method, with one of the losses if there are any. A *trial* is one
network: a row's student of one seed and teacher, or a teacher itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ferd_eval.evaluation.config import EvalConfig
from ferd_train.distillation.teacher import FrozenTeacher, TeacherReading, teacher_file
from ferd_train.recipes.student import StudentRecipe

#: The name of a teacher's own row.
TEACHER = "teacher"


@dataclass(frozen=True)
class TeacherSource:
    """A teacher by its file: a path, or ``demo``."""

    name: str
    checkpoint: str
    reading: TeacherReading

    def load(self, image_size: int) -> FrozenTeacher:
        with teacher_file(self.checkpoint) as file:
            return self.reading.load(file, image_size)


@dataclass(frozen=True)
class MethodRow:
    """A method, with a loss where the study has any.

    Attributes:
        loss: empty for the recipe's own.
        recipe: with the study's changes and the first seed; `base` names it without them.
        stated: fields that the study sets.
    """

    method: str
    loss: str
    recipe: StudentRecipe
    base: str = ""
    stated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.method}-{self.loss}" if self.loss else self.method

    @property
    def where(self) -> str:
        """In messages."""
        return f"methods.{self.method}" + (f" with losses.{self.loss}" if self.loss else "")

    @property
    def student_steps(self) -> int:
        return (self.recipe.epochs - self.recipe.warmup) * self.recipe.distillation.steps


@dataclass(frozen=True)
class Trial:
    """One network of a study.

    Attributes:
        row, seed: None for the teacher itself.
    """

    teacher: TeacherSource
    row: MethodRow | None = None
    seed: int | None = None

    @property
    def row_name(self) -> str:
        """In the tables of its teacher."""
        return self.row.name if self.row else TEACHER

    @property
    def path(self) -> Path:
        """In the study's folder; also its name in messages."""
        row = Path(folder_name(self.teacher.name), folder_name(self.row_name))
        return row if self.row is None else row / f"seed-{self.seed}"

    @property
    def recipe(self) -> StudentRecipe:
        assert self.row is not None
        return self.row.recipe.with_changes({"seed": self.seed})


@dataclass(frozen=True)
class Evaluation:
    """Attacks on some images, under a name.

    Attributes:
        settings: without those that depend on the network or the machine.
    """

    name: str
    settings: EvalConfig

    @property
    def folder(self) -> str:
        return folder_name(self.name)


@dataclass(frozen=True)
class Study:
    """A study file, read; everything goes to the folder `out`.

    Attributes:
        baseline: name of the row that the others are compared with.
        trials: the teachers first, then seed by seed.
    """

    file: Path
    title: str
    dataset: str
    out: Path
    seeds: tuple[int, ...]
    teachers: tuple[TeacherSource, ...]
    rows: tuple[MethodRow, ...]
    evaluations: tuple[Evaluation, ...]
    baseline: str
    trials: tuple[Trial, ...]


def folder_name(name: str) -> str:
    """A distinct folder for each name: odd characters as %XX."""
    quoted = quote(name, safe=" ")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted
