"""A student's run: a folder with its record, figures, pictures, bank and finally its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.datasets.info import Split
from ferd_eval.io.lock import sole_user
from ferd_eval.runtime.device import DeviceChoice, exact_arithmetic
from ferd_eval.runtime.progress import ProgressReporter
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.distillation.trainer import HELD_OUT, StudentTraining
from ferd_train.monitoring import charts
from ferd_train.monitoring.alarms import alarms
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.monitoring.run_progress import RunProgress
from ferd_train.monitoring.writer import NO_CHARTS, Pictures
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.base import RealImages
from ferd_train.synthesis.methods.real import RealRecipe
from ferd_train.training.process_group import ALONE, Workers
from ferd_train.training.run_folder import RunFolder, describe_run
from ferd_train.training.validation import Validation, hold_out

#: The network that a finished run leaves in its folder, and the images it was trained on.
RESULT, BANK = "student.safetensors", "bank"


@dataclass(frozen=True)
class ImageSource:
    """Where real images come from. Fields are arguments of `load_dataset`."""

    data_dir: Path | None = None
    download: bool = False
    classes: str | None = None
    class_order: str | None = None

    def load(self, name: str, split: Split) -> LabelledImages:
        return load_dataset(
            name,
            self.data_dir,
            split=split,
            download=self.download,
            classes=self.classes,
            class_order=self.class_order,
        )


def train_student(
    recipe: StudentRecipe,
    teacher: FrozenTeacher,
    out: Path,
    *,
    device: DeviceChoice,
    source: ImageSource | None = None,
    watch: Callable[[StudentLog, int], None] = lambda log, epochs: None,
    reporter: ProgressReporter | None = None,
    workers: Workers = ALONE,
) -> Path:
    """Distil a student, or continue to, and return the path of the saved network.

    The weights saved are those after the last epoch, or by `HeldOutRecipe` the best by synthetic
    images; nothing is selected on real data. Alarms are noted as they come. A killed run
    continues from its last state, saved every two minutes and after each epoch; a finished one is
    left as it is.

    Args:
        recipe: of the student.
        teacher: the network to distil; moved to the device.
        out: the run's folder.
        device: where to train.
        source: of real images, if the recipe wants any.
        watch: called after each epoch with its figures and the number of epochs.
        reporter: told of each step.
        workers: processes that call this alike, and share each batch and the folder. Only the
            first writes and watches.

    Raises:
        UserError: the teacher does not fit the recipe, the folder holds another run or a damaged
            one, another process works in it, a batch does not fit into memory, or training
            diverged.
        KeyboardInterrupt: a signal asked to stop; everything up to the last step was kept.
    """
    with workers.in_turn():  # the first one may have to fetch them
        shown = load_shown_images(recipe, teacher, source or ImageSource())
    reporter = reporter or ProgressReporter()
    if workers.is_first:
        for caution in shown.cautions:
            reporter.note(f"warning: {caution}")
    with sole_user(out, below=(BANK, HELD_OUT)) if workers.is_first else nullcontext():
        images, real = shown.validation, shown.real
        run = student_run(recipe, teacher, out, device=device, shown=shown, workers=workers)
        workers.wait()  # all have looked at the folder before it changes
        if run.is_finished:
            return run.network
        teacher.classifier.to(device.device)
        validation = None
        if images is not None:
            _, rows_N = hold_out(images.labels_N, recipe.validation.per_class)
            validation = Validation(images, rows_N, recipe.eps, device.device, recipe.seed)
        names = teacher.class_names if images is None else images.class_names
        pictures = Pictures(out, names)
        with exact_arithmetic():
            training = StudentTraining(
                recipe, teacher, device.device, real=real, validation=validation, workers=workers
            )
            continues = run.state.exists()
            if continues:
                training.resume(run.state, out / BANK)
            if workers.is_first:
                run.begin(recipe)
            if not continues:
                training.begin(out / BANK)
            progress = None
            if workers.is_first:
                if not charts.installed():
                    reporter.note(NO_CHARTS)
                title = f"seed {recipe.seed}"
                progress = RunProgress(reporter, title, training.phases, recipe.epochs)

            def after_epoch(log: StudentLog) -> None:
                pictures.refresh(training.logs, training.bank)
                watch(log, recipe.epochs)
                _sound_alarms(run, recipe, training.logs, names, reporter)

            training.complete(run, device, progress, after_epoch)
        if workers.is_first:
            # A kill after the last epoch's state was saved came before its alarms.
            _sound_alarms(run, recipe, training.logs, names, reporter)
            pictures.finish(training.logs, training.bank)
            training.export(run.network, _origin(teacher, real))
            table = [log.flat(".") for log in training.logs]
            for row in table:
                for name in ("held_out", "validation"):
                    row.pop(name, None)  # not measured; else each of its figures has a column
            run.record["checkpoint_selection"] = _selection(recipe, shown, training)
            run.finish([vars(log) for log in training.logs], table, epoch=training.best_epoch)
        return run.network


def _sound_alarms(
    run: RunFolder,
    recipe: StudentRecipe,
    logs: Sequence[StudentLog],
    names: Sequence[str],
    reporter: ProgressReporter,
) -> None:
    """Note those that the record does not have yet, and put them there."""
    reweights = recipe.reweighting.strategy != "uniform"
    raised = alarms(logs, names, warmup=recipe.warmup, reweights=reweights)
    new = raised[len(run.record["alarms"]) :]
    for alarm in new:
        reporter.note(f"warning: {alarm}")
    if new:
        run.add({"alarms": [vars(alarm) for alarm in raised]})


@dataclass(frozen=True, eq=False)
class ShownImages:
    """Real images that a run sees: looked at after each epoch, or learnt from in place of made
    ones.
    """

    validation: LabelledImages | None
    real: RealImages | None

    @property
    def cautions(self) -> tuple[str, ...]:
        """Reasons to doubt the figures on them, or the learning from them."""
        those = (self.validation, self.real and self.real.images)
        return tuple(dict.fromkeys(text for each in those if each for text in each.cautions))


def load_shown_images(
    recipe: StudentRecipe, teacher: FrozenTeacher, source: ImageSource
) -> ShownImages:
    """Load the real images that the recipe names, if any.

    Raises:
        UserError: there are no such images, too few, or of another kind than the teacher's.
    """

    def training_split(name: str, setting: str) -> LabelledImages:
        images = source.load(name, "train")
        teacher.require_same_kind(images, setting)
        return images

    validation = real = None
    if recipe.validation.dataset:
        validation = training_split(recipe.validation.dataset, "validation.dataset")
    if isinstance(recipe.synthesis, RealRecipe):
        images = training_split(recipe.synthesis.dataset, "synthesis.dataset")
        rows_N, _ = hold_out(images.labels_N, recipe.validation.per_class)
        real = RealImages(images, rows_N)  # without the rows that would be held out
    return ShownImages(validation, real)


def validate_student(
    recipe: StudentRecipe, teacher: FrozenTeacher, shown: ShownImages, workers: Workers = ALONE
) -> None:
    """Build everything that a run begins with, on the teacher's device; write nothing.

    Raises:
        UserError: something cannot work; `UnfitError` if the teacher lacks something.
    """
    if shown.validation is not None:
        hold_out(shown.validation.labels_N, recipe.validation.per_class)
    where = next(teacher.classifier.parameters()).device
    StudentTraining(recipe, teacher, where, real=shown.real, workers=workers)


def student_run(
    recipe: StudentRecipe,
    teacher: FrozenTeacher,
    out: Path,
    *,
    device: DeviceChoice,
    shown: ShownImages,
    workers: Workers = ALONE,
) -> RunFolder:
    """This run's folder, unchanged; a `UserError` if it holds another run, or a damaged one."""
    images, real = shown.validation, shown.real
    facts = {
        "processes": workers.count,
        "teacher": teacher.description,
        "training_images": _learnt_from(real),
        "dataset": None if real is None else real.images.describe(),
        "validation": None if images is None else images.describe(),
        "checkpoint_selection": _selection(recipe, shown),
        "warnings": list(shown.cautions),
        "alarms": [],
    }
    return RunFolder(out, RESULT, describe_run(recipe, device, facts))


def _origin(teacher: FrozenTeacher, real: RealImages | None) -> dict[str, str]:
    """Metadata of a student's file: its teacher, and the images it learnt from."""
    origin = {
        "ferd.teacher_sha256": str(teacher.description["sha256"]),
        "ferd.training_images": _learnt_from(real),
    }
    known = {"ferd.dataset": teacher.dataset, "ferd.teacher_key": teacher.key}
    return {**origin, **{name: value for name, value in known.items() if value}}


def _learnt_from(real: RealImages | None) -> str:
    if real is None:
        return "synthetic, made from the teacher alone"
    return f"real, {len(real.rows_N)} of the training split of {real.images.name}: not data-free"


def _selection(
    recipe: StudentRecipe, shown: ShownImages, training: StudentTraining | None = None
) -> str:
    """Which epoch's student is kept, by what; of a finished training, the very epoch."""
    which = "last epoch"
    if recipe.held_out.selects:
        by = (
            "agreement with the teacher under PGD-10 on held-out synthetic images, average and "
            "lowest class in equal parts"
        )
        best = recipe.held_out.keep == "best"
        number = None
        if training is not None:
            number = training.best_epoch if best else training.epochs_done
        which = ("best" if best else "last") + (f" epoch, {number}" if number else " epoch")
        if training is not None and training.epochs_done < recipe.epochs:
            which += f", of {training.epochs_done} in place of {recipe.epochs}"
        which += f", by {by}" if best else f", ended by {by}"
    if shown.validation is not None:
        return f"{which}; held-out training images looked at, none used"
    used = "no" if shown.real is None else "no held-out"
    return f"{which}; {used} images of the data set used"
