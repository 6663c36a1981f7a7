"""How long a student's epoch will take, from a few steps of it. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ferd_eval.runtime.device import DeviceChoice, exact_arithmetic
from ferd_train.config.recipe import flat
from ferd_train.distillation.run import ShownImages
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.run_folder import fitting_into_memory

# Steps of two short epochs; what the longer takes more is that of the steps between. One of five
# student steps is also one of ZSKT's generator.
_FEW, _MORE = 1, 6
# Images that the shortest epoch is first timed on, and seconds it may take with a whole batch.
_SMALL_BATCH, _PATIENCE = 8, 60.0


@dataclass(frozen=True)
class EpochTime:
    """Wall clock of an epoch, in seconds."""

    making: float
    learning: float

    def run(self, recipe: StudentRecipe, epochs_done: int) -> float:
        """Of the epochs that are left."""
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
    """An epoch of so many steps."""
    changes = {"warmup": 0, "batch_size": batch, "distillation.steps": steps}
    known = flat(recipe)
    limits = {"synthesis.steps": steps, **recipe.synthesis.full_cost}
    changes |= {name: value for name, value in limits.items() if name in known}
    training = StudentTraining(
        recipe.with_changes(changes), teacher, device.device, real=shown.real
    )
    training.bank = _HeldBank(teacher.image_shape)
    log = training.epoch()
    return EpochTime(log.seconds_making, log.seconds_learning)


class _HeldBank(Bank):
    """A bank in memory."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape = image_shape
        self._x_NCHW, self._labels_N = torch.zeros(0, *image_shape), torch.zeros(0).long()

    def __len__(self) -> int:
        return len(self._labels_N)

    def append(self, x_BCHW: Tensor, labels_B: Tensor) -> None:
        """Add images and labels."""
        self._x_NCHW = torch.cat([self._x_NCHW, x_BCHW.detach().cpu()])
        self._labels_N = torch.cat([self._labels_N, labels_B.cpu()])

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        share: BatchShard = WHOLE,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of a bank on disk."""
        place_B = torch.randint(len(self), (count,), generator=generator)
        x_BCHW, labels_B = self._x_NCHW[place_B], self._labels_N[place_B]
        return x_BCHW.to(device), labels_B.to(device), place_B.to(device)
