"""A teacher's run: a folder with its record, figures and finally its network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ferd_eval.datasets import LabelledImages
from ferd_eval.io.lock import sole_user
from ferd_eval.runtime.device import DeviceChoice, exact_arithmetic
from ferd_eval.runtime.progress import ProgressReporter
from ferd_train.adversarial_training.trainer import EpochLog, Training
from ferd_train.monitoring.run_progress import RunProgress
from ferd_train.recipes.teacher import TeacherRecipe
from ferd_train.training.run_folder import RunFolder, describe_run

#: The network that a finished run leaves in its folder.
RESULT = "teacher.safetensors"


def train_teacher(
    recipe: TeacherRecipe,
    out: Path,
    *,
    device: DeviceChoice,
    data: LabelledImages,
    watch: Callable[[EpochLog, int], None] = lambda log, epochs: None,
    reporter: ProgressReporter | None = None,
) -> Path:
    """Train on `data`, or continue training, and return the path of the saved network.

    The weights saved are the moving average after the last epoch; nothing is selected on any data.
    Other arguments and errors are those of `train_student`.
    """
    with sole_user(out):
        facts = {
            "dataset": data.describe(),
            "checkpoint_selection": "last epoch, moving average of the weights; no test data used",
            "warnings": list(data.cautions),
        }
        run = RunFolder(out, RESULT, describe_run(recipe, device, facts))
        if run.is_finished:
            return run.network
        with exact_arithmetic():
            training = Training(recipe, data, device.device)
            training.resume(run.state)
            run.begin(recipe)
            progress = RunProgress(
                reporter or ProgressReporter(), recipe.arch, training.phases, recipe.epochs
            )
            training.complete(run, device, progress, lambda log: watch(log, recipe.epochs))
        training.export(run.network)
        figures = [vars(log) for log in training.logs]
        run.finish(figures, figures)
        return run.network
