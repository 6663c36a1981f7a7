"""Adversarial training, epoch by epoch, that continues to the bit after a kill.

All randomness is keyed by (seed, epoch, image), so the only state is the network, its moving
average, the optimiser, the figures of the finished epochs and, within an epoch, its losses.
B batch, K classes, N data set, C channels, H × W pixels.
"""

from __future__ import annotations

import json
import math
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
from ferd_eval.errors import UserError
from ferd_eval.evaluation.model_checks import check_network
from ferd_eval.models import build_architecture, save_network
from ferd_train.adversarial_training.losses import LOSSES
from ferd_train.monitoring.stopwatch import Stopwatch
from ferd_train.recipes.teacher import TeacherRecipe
from ferd_train.training.augmentation import crop_and_flip
from ferd_train.training.checkpoint import read_state, write_state
from ferd_train.training.lr_schedule import one_cycle
from ferd_train.training.pace import Phase
from ferd_train.training.precision import PRECISIONS, memory_format
from ferd_train.training.seams import Seams
from ferd_train.training.validation import VALIDATION_BATCH, Validation, hold_out, take

#: What the optimiser's steps are called.
STEP = "step"


@dataclass(frozen=True)
class EpochLog:
    """Figures of one epoch.

    Attributes:
        epoch: counted from 1.
        lr: learning rate of its last step.
        train_loss: mean over its steps.
        validation_clean: accuracy on the validation part, a fraction, of the averaged network.
        validation_pgd: the same under PGD-10 with steps of ε/4, the mean of the classes.
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


class Training:
    """Network, average, optimiser and data of one run.

    Attributes:
        recipe: what is done.
        logs: figures of the finished epochs.
        seams: where it may be left within an epoch.

    Raises:
        UserError: the architecture is unknown or does not take the images, or a class is too
            small to hold images out.
    """

    def __init__(self, recipe: TeacherRecipe, data: LabelledImages, device: torch.device) -> None:
        self.recipe = recipe
        self.logs: list[EpochLog] = []
        self.seams = Seams(device=device)
        self._stopwatch = Stopwatch()
        # Mean loss of the epoch at hand, once its steps are done.
        self._mean_loss: float | None = None
        self._loss = LOSSES[recipe.loss](recipe)
        self._device = device
        self._data = data
        self._train_N, held_out_N = hold_out(data.labels_N, recipe.validation_per_class)
        self._validation = Validation(data, held_out_N, recipe.eps, device, recipe.seed)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            architecture = build_architecture(
                recipe.arch, num_classes=data.num_classes, in_channels=data.image_shape[0]
            )
            self._architecture = architecture
            self._network = architecture.build().to(device)
            self._network.to(memory_format=memory_format(recipe.precision, device))
        check_network(self._network, data, torch.float32)
        average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self._network, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.logs)

    def epoch(self) -> EpochLog:
        """One pass over the training part, then the validation figures of the averaged network.

        Raises:
            UserError: training diverged. The weights are then of no use; what was saved before is.
        """
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

    @property
    def phases(self) -> dict[str, Phase]:
        """What an epoch consists of, by name."""
        recipe = self.recipe
        return {
            STEP: Phase(self._steps, recipe.inner_steps + 2),
            VALIDATION_BATCH: self._validation.phase(recipe.batch_size),
        }

    @property
    def _steps(self) -> int:
        """Steps of the optimiser an epoch."""
        return len(self._train_N) // self.recipe.batch_size or 1

    def _learn(self) -> float:
        """An epoch's steps; their mean loss."""
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

    def _require_finite(self, mean_loss: float) -> None:
        """The last step may have spoilt the weights after the last finite loss."""
        weights = "finite" if self._has_finite_weights else "not finite"
        if not math.isfinite(mean_loss) or weights == "not finite":
            raise self._diverged(f"loss {mean_loss:g}, weights {weights}")

    @property
    def _has_finite_weights(self) -> bool:
        return all(bool(t.isfinite().all()) for t in self._network.state_dict().values())

    def _diverged(self, how: str) -> UserError:
        kept = " The state kept last is from before that." if self.logs else ""
        return UserError(
            f"training diverged in epoch {self.epochs_done + 1} ({how}): lr {self.recipe.lr:g} is "
            "too high. Start again in another folder with a lower one, e.g. --set "
            f"lr={self.recipe.lr / 10:g}.{kept}"
        )

    def _step(self, rows_B: NDArray[np.int64]) -> Tensor:
        """One step of the optimiser; returns the loss."""
        recipe = self.recipe
        x_BCHW, y_B, index_B = take(self._data, rows_B, self._device)
        if recipe.crop_padding or recipe.flip:
            noise = KeyedRng(epoch_seed(recipe.seed, self.epochs_done), "augment", index_B)
            x_BCHW = crop_and_flip(x_BCHW, noise, recipe.crop_padding, recipe.flip)
        adv_BCHW = self._perturb(x_BCHW, y_B, index_B)
        self._network.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._network, x_BCHW, adv_BCHW, y_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._average.update_parameters(self._network)
        return loss.detach()

    def _perturb(self, x_BCHW: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        """The inner maximisation, against the network in evaluation mode."""
        recipe = self.recipe
        with frozen(self._network), torch.no_grad():
            clean_BK = self._network(x_BCHW)
        inner = self._loss.attack(recipe.inner_steps, recipe.inner_step)
        return inner.examples(
            self._network,
            Batch(x_BCHW, y_B, index_B, clean_BK),
            Threat(recipe.eps),
            seed=epoch_seed(recipe.seed, self.epochs_done),
            passes=Passes(),
        )

    def keep(self, file: Path) -> None:
        """`save` within an epoch.

        Raises:
            UserError: training diverged. What was saved before stays.
        """
        if not self._has_finite_weights:
            raise self._diverged("weights not finite")
        self.save(file)

    def save(self, file: Path) -> None:
        """Write everything a later process needs, whole or not at all."""
        write_state(
            file,
            {
                "logs": [vars(log) for log in self.logs],
                "network": self._network.state_dict(),
                "average": self._average.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "mean_loss": self._mean_loss,
                "seconds": self._stopwatch.seconds,
                "seam": self.seams.state(),
            },
        )

    def resume(self, file: Path) -> None:
        """Read what `save` wrote, if there is anything.

        Raises:
            UserError: the file is damaged. It was written whole, so something else broke it, and
                whether to lose its epochs is the user's to say.
        """
        if not file.exists():
            return

        def load(state: Mapping[str, Any]) -> None:
            self._network.load_state_dict(state["network"])
            self._average.load_state_dict(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.logs = [EpochLog(**log) for log in state["logs"]]
            # Older states have none of these, as they lie between two epochs.
            self._mean_loss = state.get("mean_loss")
            self._stopwatch.set(state.get("seconds", 0.0))
            self.seams.load_state(state.get("seam"))

        read_state(file, load)

    def export(self, file: Path) -> None:
        """Save the averaged network so that `ferd_eval` reads it without being told anything."""
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
