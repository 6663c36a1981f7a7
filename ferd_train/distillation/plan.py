"""The plan that ``student --dry-run`` prints, with its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ferd_eval.attacks import PlannedAttack
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.evaluation.cost.model import TIMED_IMAGES, seconds_per_image
from ferd_eval.evaluation.model_checks import as_images
from ferd_eval.io.json import parse_json
from ferd_eval.models import build_architecture
from ferd_eval.runtime.device import DeviceChoice, exact_arithmetic
from ferd_eval.runtime.progress import duration
from ferd_train.config.recipe import flat, text_of
from ferd_train.distillation.run import ShownImages
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.recipes.student import StudentRecipe
from ferd_train.training.run_folder import RunFolder, fitting_into_memory

# Steps of two short epochs; their difference is the time of the steps between. Every fifth student
# step is also one of ZSKT's generator.
_FEW, _MORE = 1, 6
# Images that the shortest epoch is first timed on, and seconds it may take with a whole batch.
_SMALL_BATCH, _PATIENCE = 8, 60.0


@dataclass(frozen=True, eq=False)
class Scoring:
    """Attacks on students and teacher."""

    images: LabelledImages
    plan: Sequence[PlannedAttack]


@dataclass(frozen=True, eq=False)
class StudentPlan:
    """A validated job: recipes and folders of runs by seed, real images that they see.

    Attributes:
        name: of the recipe.
        scoring: None if nothing is scored.
    """

    name: str
    recipes: Sequence[StudentRecipe]
    runs: Sequence[RunFolder]
    teacher: FrozenTeacher
    shown: ShownImages
    device: DeviceChoice
    scoring: Scoring | None

    def lines(self) -> Iterator[str]:
        """The plan, line by line. Measures a few steps of training."""
        recipe, known, teacher = self.recipes[0], flat(self.recipes[0]), self.teacher
        shape = "×".join(map(str, teacher.image_shape))
        yield (
            f"recipe   {self.name}: images by {recipe.synthesis.method}, loss {recipe.loss.name}; "
            f"{shape}, eps {text_of(recipe.eps)}"
        )
        yield f"teacher  {self._teacher()}"
        student = build_architecture(
            recipe.arch, num_classes=teacher.num_classes, in_channels=teacher.image_shape[0]
        )
        with torch.device("meta"):
            weights = sum(each.numel() for each in student.build().parameters())
        yield f"student  {recipe.arch}, {weights:,} weights; on {self.device.device}"
        made = (
            f"{known['synthesis.steps']} steps of images and " if "synthesis.steps" in known else ""
        )
        yield (
            f"epochs   {recipe.epochs}, of which {recipe.warmup} teach nothing yet; {made}"
            f"{recipe.distillation.steps} of the student each, batches of {recipe.batch_size}"
        )
        left = [_epochs_done(run, recipe) for run in self.runs]
        for each, run, done in zip(self.recipes, self.runs, left, strict=True):
            yield f"seed {each.seed:<4}{run.folder}: {_standing(run, each, done)}"
        yield f"time     {self._time(left)}"
        if self.scoring is not None:
            yield f"scoring  {self._scoring(self.scoring)}"
        yield "Nothing was written. Leave --dry-run out to begin."

    def _teacher(self) -> str:
        facts, record = self.teacher.description, self.teacher.record
        trained = [f"trained on {record.dataset}"] if record.dataset else []
        trained += [f"at eps {text_of(record.eps)}"] if record.eps else []
        said = " ".join(trained) or "what it was trained at is not known"
        return (
            f"{facts['name']}: {facts['architecture']}, {self.teacher.num_classes} classes; {said}"
        )

    def _time(self, done: Sequence[int]) -> str:
        if all(run.is_finished for run in self.runs):
            return "none: all is trained"
        epoch = measure_epoch(self.recipes[0], self.teacher, self.shown, self.device)
        seconds = sum(
            epoch.run(recipe, count) for recipe, count in zip(self.recipes, done, strict=True)
        )
        return (
            f"about {duration(seconds)} ({duration(epoch.making)} of images and "
            f"{duration(epoch.learning)} of learning an epoch), by a few steps taken here"
        )

    def _scoring(self, scoring: Scoring) -> str:
        data, plan, recipe = scoring.images, scoring.plan, self.recipes[0]
        few = slice(0, max(TIMED_IMAGES))
        where = self.device.device
        labels_B = torch.from_numpy(data.labels_N[few]).to(where)
        student = build_architecture(
            recipe.arch, num_classes=data.num_classes, in_channels=data.image_shape[0]
        ).build()
        counts = {self.teacher.classifier.to(where): 1, student.to(where).eval(): len(self.runs)}
        seconds = sum(
            count
            * Remaining(
                plan,
                len(data),
                data.num_classes,
                seconds_per_image(
                    network, as_images(data.images_NCHW[few], network, where), labels_B, plan
                ),
            ).left()
            for network, count in counts.items()
        )
        names = ", ".join(planned.id for planned in plan)
        networks = f"teacher and {len(self.runs)} student{'s' * (len(self.runs) > 1)}"
        return (
            f"{networks} on {len(data)} images of {data.name}: {names}; about "
            f"{duration(seconds)} at most"
        )


def _epochs_done(run: RunFolder, recipe: StudentRecipe) -> int:
    if run.is_finished:
        return recipe.epochs
    if not run.state.exists():
        return 0
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return len([parse_json(line) for line in lines])


def _standing(run: RunFolder, recipe: StudentRecipe, done: int) -> str:
    if run.is_finished:
        return "finished"
    return f"to be continued from epoch {done + 1} of {recipe.epochs}" if done else "to be trained"


@dataclass(frozen=True)
class EpochTime:
    """Wall clock of an epoch, in seconds."""

    making: float
    learning: float

    def run(self, recipe: StudentRecipe, epochs_done: int) -> float:
        taught = recipe.epochs - max(epochs_done, recipe.warmup)
        return self.making * (recipe.epochs - epochs_done) + self.learning * taught


def measure_epoch(
    recipe: StudentRecipe, teacher: FrozenTeacher, shown: ShownImages, device: DeviceChoice
) -> EpochTime:
    """Take a few steps of images and of the student, on fewer images where a batch takes long.

    Raises:
        UserError: a batch does not fit into memory, or training diverged.
    """
    batch = min(_SMALL_BATCH, recipe.batch_size)
    with exact_arithmetic(), fitting_into_memory(recipe.batch_size, device):
        first = _short(recipe, teacher, shown, device, _FEW, batch)
        share = recipe.batch_size / batch
        if (first.making + first.learning) * share < _PATIENCE:
            batch, share = recipe.batch_size, 1.0
        short, longer = (
            _short(recipe, teacher, shown, device, steps, batch) for steps in (_FEW, _MORE)
        )
    making = short.making
    if "synthesis.steps" in flat(recipe):
        steps = int(flat(recipe)["synthesis.steps"])
        making = _scaled(short.making, longer.making, steps)
    learning = _scaled(short.learning, longer.learning, recipe.distillation.steps)
    return EpochTime(making * share, learning * share)


def _scaled(short: float, longer: float, steps: int) -> float:
    """By a straight line through both."""
    step = max(longer - short, 0.0) / (_MORE - _FEW)
    return short + step * (steps - _FEW)


def _short(
    recipe: StudentRecipe,
    teacher: FrozenTeacher,
    shown: ShownImages,
    device: DeviceChoice,
    steps: int,
    batch: int,
) -> EpochTime:
    changes = {"warmup": 0, "batch_size": batch, "distillation.steps": steps}
    known = flat(recipe)
    limits = {
        "synthesis.steps": steps,
        "distillation.awp_from": 0.0,
        **recipe.synthesis.full_cost,
    }
    changes |= {name: value for name, value in limits.items() if name in known}
    training = StudentTraining(
        recipe.with_changes(changes), teacher, device.device, real=shown.real
    )
    with TemporaryDirectory() as folder:
        training.begin(Path(folder, "bank"))
        log = training.epoch()
    return EpochTime(log.seconds_making, log.seconds_learning)
