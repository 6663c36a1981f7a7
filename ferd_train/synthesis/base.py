"""The base of every method of making images. B batch, C channels, H × W pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_train.config.checks import Checked
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.augmentation import AugmentationRecipe
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seams import Remembering, Seams
from ferd_train.training.seeds import Randomness

#: Name of the steps that make images.
IMAGE_STEP = "image step"


@dataclass(frozen=True, eq=False)
class Feed:
    """Images for the student's steps of an epoch; call it in the order of the steps, from 0.

    Attributes:
        draw: from a step to the process's own images in [0, 1] and their labels.
        streams: the random numbers it draws from, by purpose.
    """

    draw: Callable[[int], tuple[Tensor, Tensor]]
    streams: Mapping[str, torch.Generator] = field(default_factory=dict)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        return self.draw(step)


@dataclass(frozen=True, eq=False)
class RealImages:
    """The training split of a data set, and those of its rows that are not held out."""

    images: LabelledImages
    rows_N: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Setting:
    """Where images are made.

    Attributes:
        teacher, student: images to logits; the teacher in evaluation mode, the student learns.
        image_shape: C, H, W.
        num_classes, device: of both networks.
        batch_size: of the whole batch.
        eps: radius of the L∞ ball.
        augmentation: of the images before the networks see them.
        seed: the run's.
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
        loss: of the kept images.
        terms: its unweighted terms.
        step: that the kept images come from, counted from 1.
    """

    x_BCHW: Tensor
    labels_B: Tensor
    last_BCHW: Tensor
    loss: float
    terms: Mapping[str, float]
    step: int


class Synthesis(ABC):
    """A method of making images; it leaves the networks unchanged.

    Attributes:
        setting: where it works.
    """

    def __init__(self, setting: Setting) -> None:
        """Raise errors about the setting here, not in `make`."""
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
        """Images for the epoch's student steps: here augmented independent draws from the bank."""
        setting, draws = self.setting, randomness.stream("draws")

        def draw(step: int) -> tuple[Tensor, Tensor]:
            x_BCHW, labels_B, _ = bank.draw(
                setting.batch_size, draws, setting.device, setting.share
            )
            return setting.augment(x_BCHW, randomness.seed("augment draws", step)), labels_B

        return Feed(draw, {"draws": draws})

    def parts(self) -> Mapping[str, Remembering]:
        """Everything that outlasts an epoch's loops, by name."""
        return {}

    def state(self) -> dict[str, Any]:
        """Of the parts: tensors, numbers and containers of them."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


@dataclass(frozen=True)
class SynthesisRecipe(Checked, ABC):
    """Constants of a method; a subclass's default of `method` is its name.

    Attributes:
        method: name of the method in `METHODS`. Setting it sets the whole section to that method's
            own values, and `implied` fields of other sections. Of methods that have them, `lr` is
            Adam's for the generator's weights, `latent_lr` for the latents, `latent` the numbers
            in one, and `width` the generator's.
        implied: defaults that the method sets in other sections: no variant of FERD, and classes
            drawn evenly.
        full_cost: fields, by dotted name, with which the first epoch costs as much as later ones.
    """

    implied: ClassVar[Mapping[str, Any]] = {
        "variant": "none",
        "ablation": "none",
        "reweighting.strategy": "uniform",
    }
    full_cost: ClassVar[Mapping[str, Any]] = {}
    method: str = field(default="", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.term_weights and not any(self.term_weights.values()):
            names = ", ".join(f"lambda_{name}" for name in self.term_weights)
            raise UserError(
                f"{names} are all 0, so nothing is asked of the images. Raise one, or take another "
                "method (ferd-train ls methods)."
            )

    @abstractmethod
    def build(self, setting: Setting) -> Synthesis:
        """The method before its first epoch.

        Raises:
            UserError: it does not fit the setting.
        """

    @property
    def image_steps(self) -> int:
        """Steps in which an epoch's images are made; 0 of methods that take none."""
        return int(getattr(self, "steps", 0))

    @property
    def term_weights(self) -> Mapping[str, float]:
        """Weight of each term of the loss, by name: ``adv`` for the field ``lambda_adv``."""
        return {}

    def on(self, **terms: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, unweighted; only these are computed."""
        return {name: term() for name, term in terms.items() if self.term_weights[name]}

    def scored(self, terms: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, a scalar with gradient, and the terms without one."""
        weights = self.term_weights
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return loss, {name: term.detach() for name, term in terms.items()}


def require_alone(recipe: SynthesisRecipe, setting: Setting) -> None:
    """Raise a `UserError` if other processes make images too."""
    if setting.share.workers.count > 1:
        raise UserError(
            f"synthesis.method {recipe.method} is for one process; start it without torchrun."
        )
