"""What every method of making images has in common. B batch, C channels, H × W pixels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.augmentation import AugmentationRecipe
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seams import Seams
from ferd_train.training.seeds import Randomness

#: What steps that make images are called.
IMAGE_STEP = "image step"


@dataclass(frozen=True, eq=False)
class Feed:
    """Images for the student's steps of an epoch, to be asked for in order.

    Attributes:
        draw: from the number of a step, counted from 0, to the process's own images in [0, 1] and
            their labels.
        streams: what it draws from, by purpose, in no order but that of the steps.
    """

    draw: Callable[[int], tuple[Tensor, Tensor]]
    streams: Mapping[str, torch.Generator] = field(default_factory=dict)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and labels of a step."""
        return self.draw(step)


@dataclass(frozen=True, eq=False)
class RealImages:
    """Training images of a data set.

    Attributes:
        images: the training split.
        rows_N: rows of it that may be learnt from; the others are held out.
    """

    images: LabelledImages
    rows_N: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Setting:
    """Where images are made.

    Attributes:
        teacher: images to logits, in evaluation mode.
        student: the network that learns meanwhile.
        image_shape: C, H, W.
        num_classes: of both networks.
        batch_size: of the whole batch.
        eps: radius of the L∞ ball.
        augmentation: of what the networks see.
        seed: the run's.
        device: of both networks.
        share: of each batch that this process makes.
        real: images to learn from; None without any, as data-free training has it.
        seams: where the run may be left while images are made.
    """

    teacher: nn.Module
    student: nn.Module
    image_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int
    eps: Fraction
    augmentation: AugmentationRecipe
    seed: int
    device: torch.device
    share: BatchShard = WHOLE
    real: RealImages | None = None
    seams: Seams = field(default_factory=Seams)

    def augment(self, x_BCHW: Tensor, seed: int) -> Tensor:
        """The process's images as networks see them."""
        return self.augmentation(x_BCHW, seed, self.share.places(x_BCHW))


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A batch that was made.

    Attributes:
        x_BCHW: the process's own images in [0, 1], as they go into the bank.
        labels_B: classes of the whole batch.
        last_BCHW: those of the last step, augmented as the networks saw them.
        loss: what was lowered, of the kept images.
        terms: its unweighted terms.
        step: the step that the kept images come from, counted from 1.
    """

    x_BCHW: Tensor
    labels_B: Tensor
    last_BCHW: Tensor
    loss: float
    terms: Mapping[str, float]
    step: int


class Synthesis(ABC):
    """A method of making images. The networks are frozen while it does, and unchanged after.

    Attributes:
        setting: where it works.
    """

    def __init__(self, setting: Setting) -> None:
        """Everything that the setting lacks is said here."""
        self.setting = setting

    @abstractmethod
    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic | None:
        """One epoch's images for the bank; None of a method that makes none.

        Args:
            labels_B: classes asked for, of the whole batch.
            randomness: of the epoch.

        Raises:
            UserError: nothing usable came out.
        """

    def feed(self, bank: Bank, randomness: Randomness) -> Feed:
        """Images for the epoch's student steps, to be asked for in order.

        Here: independent draws from the bank, augmented.
        """
        setting, draws = self.setting, randomness.stream("draws")

        def draw(step: int) -> tuple[Tensor, Tensor]:
            x_BCHW, labels_B, _ = bank.draw(
                setting.batch_size, draws, setting.device, setting.share
            )
            return setting.augment(x_BCHW, randomness.seed("augment draws", step)), labels_B

        return Feed(draw, {"draws": draws})

    def state(self) -> dict[str, Any]:
        """What outlasts an epoch's loops: tensors, numbers and containers of them."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        assert not state, f"{type(self).__name__} keeps nothing, so {[*state]} is not its state"


@dataclass(frozen=True)
class SynthesisRecipe(ABC):
    """Constants of a method. A kind is a dataclass whose `method` is its name.

    Attributes:
        method: name of the method in `METHODS`. Setting it sets the whole section to that method's
            own values, and `implied` fields of other sections.
        implied: what a recipe of this method has unless it is told otherwise: no variant of FERD,
            and classes drawn evenly.
        full_cost: fields, by dotted name, with which the first epoch costs as much as later ones.
    """

    implied: ClassVar[Mapping[str, Any]] = {
        "variant": "none",
        "ablation": "none",
        "reweighting.strategy": "uniform",
    }
    full_cost: ClassVar[Mapping[str, Any]] = {}
    method: str = field(default="", init=False)

    @abstractmethod
    def build(self, setting: Setting) -> Synthesis:
        """The method, ready for its first epoch.

        Raises:
            UserError: it does not fit the setting.
        """

    @property
    def image_steps(self) -> int:
        """Steps in which an epoch's images are made; 0 of methods that take none."""
        return int(getattr(self, "steps", 0))

    @property
    def names_of_weights(self) -> list[str]:
        """The fields that weigh a term, ``lambda_…``."""
        return [each.name for each in fields(self) if each.name.startswith("lambda_")]

    def require_any_weight(self) -> None:
        """See that something is lowered.

        Raises:
            UserError: all weights are 0.
        """
        if not any(getattr(self, name) for name in self.names_of_weights):
            raise UserError(
                f"{', '.join(self.names_of_weights)} are all 0, so nothing is asked of the images. "
                "Raise one, or take another method (ferd-train ls methods)."
            )

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The sum of terms, ``adv`` weighed by ``lambda_adv`` and so on; a scalar."""
        return torch.stack([getattr(self, f"lambda_{name}") * terms[name] for name in terms]).sum()


def require_alone(recipe: SynthesisRecipe, setting: Setting) -> None:
    """See that no other process makes images too.

    Raises:
        UserError: some do.
    """
    if setting.share.workers.count > 1:
        raise UserError(
            f"synthesis.method {recipe.method} is for one process; start it without torchrun."
        )


class BestBatch:
    """The batch with the lowest loss so far, kept on the device without asking it for anything.

    A copy: what makes the images may go on to change them in place.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._loss = torch.full((), torch.inf, device=self._device)
        self._step = torch.zeros((), dtype=torch.int64, device=self._device)
        self._x_BCHW: Tensor | None = None
        self._terms: Mapping[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        kept = {"loss": self._loss, "step": self._step, "images": self._x_BCHW}
        return {**kept, "terms": dict(self._terms)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from what `state_dict` gave."""
        self._loss, self._step = (state[name].to(self._device) for name in ("loss", "step"))
        images = state["images"]
        self._x_BCHW = None if images is None else images.to(self._device)
        self._terms = {name: term.to(self._device) for name, term in state["terms"].items()}

    def see(self, loss: Tensor, x_BCHW: Tensor, terms: Mapping[str, Tensor], step: int) -> None:
        """Keep this batch if its loss is lower; one that is not a number never is."""
        lower = loss < self._loss
        if self._x_BCHW is None:
            self._x_BCHW, self._terms = x_BCHW, terms
        # `where` makes new tensors, so nothing kept is written to later.
        self._x_BCHW = torch.where(lower, x_BCHW, self._x_BCHW)
        self._terms = {name: torch.where(lower, terms[name], self._terms[name]) for name in terms}
        self._step = torch.where(lower, step, self._step)
        self._loss = torch.where(lower, loss, self._loss)

    def synthetic(self, labels_B: Tensor, last_BCHW: Tensor) -> Synthetic:
        """What was kept, with the labels of the whole batch and what the networks saw last.

        Raises:
            UserError: no loss was finite.
        """
        assert self._x_BCHW is not None
        loss = float(self._loss)
        terms = {name: float(term) for name, term in self._terms.items()}
        if not math.isfinite(loss):
            # The first step's loss knows nothing of the generator's learning rates.
            raise UserError(
                "the generator's loss was not finite from its first step on "
                f"({', '.join(f'{name} {term:g}' for name, term in terms.items())}): the student "
                "has diverged, or the teacher's logits or the weights lambda_... are too large. "
                "Start again in another folder with a lower --set distillation.lr=... ."
            )
        return Synthetic(self._x_BCHW, labels_B, last_BCHW, loss, terms, int(self._step))
