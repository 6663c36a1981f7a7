"""Adversarial training, epoch by epoch; bit-exact when continued after a kill.

All randomness is keyed by (seed, epoch, image), so the state is the network, its moving average,
the optimiser, the figures of the finished epochs and, within an epoch, its losses.
B batch, K classes, N data set, C channels, H × W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ferd_eval.attacks import Batch, KeyedRng, Passes, Threat, frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.model_checks import check_network
from ferd_eval.models import build_architecture, save_network
from ferd_train.adversarial_training.losses import ROBUST_LOSSES
from ferd_train.recipes.teacher import TeacherRecipe
from ferd_train.training.augmentation import crop_and_flip
from ferd_train.training.lr_schedule import one_cycle
from ferd_train.training.pace import Phase
from ferd_train.training.precision import PRECISIONS, memory_format
from ferd_train.training.trainer import Trainer
from ferd_train.training.validation import VALIDATION_BATCH, Validation, hold_out, take

#: The phase of the optimiser's steps.
STEP = "step"


@dataclass(frozen=True)
class EpochLog:
    """Figures of one epoch, counted from 1; accuracies are the averaged network's, as fractions.

    Attributes:
        lr: learning rate of its last step.
        train_loss: mean over its steps.
        validation_pgd: under PGD-10 with steps of ε/4, the mean of the classes.
        validation_pgd_worst_class: that of the class with the lowest.
        seconds: wall clock, validation included.
    """

    epoch: int
    lr: float
    train_loss: float
    validation_clean: float
    validation_pgd: float
    validation_pgd_worst_class: float
    seconds: float


class Training(Trainer[EpochLog]):
    """Network, average, optimiser and data of one run.

    Raises:
        UserError: the architecture is unknown or does not take the images, or a class is too
            small to hold images out.
    """

    recipe: TeacherRecipe
    subject, lr_field = "training", "lr"

    def __init__(self, recipe: TeacherRecipe, data: LabelledImages, device: torch.device) -> None:
        super().__init__(device)
        self.recipe, self.peak_lr = recipe, recipe.lr
        # Mean loss of the current epoch, once its steps are done.
        self._mean_loss: float | None = None
        self._loss = ROBUST_LOSSES[recipe.loss](recipe)
        self._data = data
        self._train_N, held_out_N = hold_out(data.labels_N, recipe.validation_per_class)
        self._validation = Validation(data, held_out_N, recipe.eps, device, recipe.seed)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            architecture = build_architecture(
                recipe.arch, num_classes=data.num_classes, in_channels=data.image_shape[0]
            )
            self._architecture = architecture
            self.network = architecture.build().to(device)
            self.network.to(memory_format=memory_format(recipe.precision, device))
        self._steps = len(self._train_N) // recipe.batch_size or 1
        self.phases = {
            STEP: Phase(self._steps, recipe.inner_steps + 2),
            VALIDATION_BATCH: self._validation.phase(recipe.batch_size),
        }
        check_network(self.network, data, torch.float32)
        average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    def epoch(self) -> EpochLog:
        """One pass over the training part, then the averaged network's validation figures."""
        self.seams.epoch = self.epochs_done + 1
        if not self.seams.goes_on:
            self._stopwatch.lap()
        if self._mean_loss is None:
            self._mean_loss = self._learn()
        figures = self._validation.figures(self._average.module, self.seams)
        log = EpochLog(
            epoch=self.epochs_done + 1,
            lr=self._optimizer.param_groups[0]["lr"],
            train_loss=self._mean_loss,
            validation_clean=figures.clean,
            validation_pgd=figures.pgd,
            validation_pgd_worst_class=figures.pgd_worst_class,
            seconds=self._stopwatch.lap(),
        )
        self._mean_loss = None
        self.logs.append(log)
        return log

    def _learn(self) -> float:
        recipe, number, steps = self.recipe, self.epochs_done, self._steps
        order_N = np.random.default_rng((recipe.seed, number)).permutation(self._train_N)
        batches = np.array_split(order_N, steps)
        losses: list[Tensor] = []
        for step in self.seams.steps(STEP, steps, {"losses": losses}):
            share = one_cycle((number + step / steps) / recipe.epochs)
            for group in self._optimizer.param_groups:
                group["lr"] = recipe.lr * share
            # Anew for each step: while it lasts, autocast remembers weights as they first were.
            with PRECISIONS[recipe.precision](self._device):
                losses.append(self._step(batches[step]))
        mean_loss = float(torch.stack(losses).mean())
        self._require_finite(mean_loss)
        return mean_loss

    def _step(self, rows_B: NDArray[np.int64]) -> Tensor:
        recipe = self.recipe
        x_BCHW, y_B, index_B = take(self._data, rows_B, self._device)
        if recipe.crop_padding or recipe.flip:
            noise = KeyedRng(epoch_seed(recipe.seed, self.epochs_done), "augment", index_B)
            x_BCHW = crop_and_flip(x_BCHW, noise, recipe.crop_padding, recipe.flip)
        with frozen(self.network), torch.no_grad():
            clean_BK = self.network(x_BCHW)
        inner = self._loss.attack(recipe.inner_steps, recipe.inner_step)
        adv_BCHW = inner.examples(
            self.network,
            Batch(x_BCHW, y_B, index_B, clean_BK),
            Threat(recipe.eps),
            seed=epoch_seed(recipe.seed, self.epochs_done),
            passes=Passes(),
        )
        self.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.network, x_BCHW, adv_BCHW, y_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._average.update_parameters(self.network)
        return loss.detach()

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "mean_loss": self._mean_loss,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.logs = [EpochLog(**log) for log in state["logs"]]
        self._mean_loss = state.get("mean_loss")  # none in older states

    def resume(self, file: Path) -> None:
        """Continue from a saved state if the file exists; a `UserError` if it is damaged."""
        if file.exists():
            self._resume(file)

    def export(self, file: Path) -> None:
        """Save the averaged network so that `ferd_eval` reads it without options."""
        save_network(
            file,
            self._average.module,
            self._architecture,
            normalization=None,
            metadata={
                "ferd.dataset": self._data.name,
                "ferd.recipe": json.dumps(self.recipe.to_json()),
            },
        )


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch of each run."""
    return seed * 1_000_003 + epoch
