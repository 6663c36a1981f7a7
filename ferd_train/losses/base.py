"""The base of every distillation loss. B batch, C channels, H × W pixels, K classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from torch import Tensor, nn

from ferd_eval.attacks import Batch, Threat
from ferd_train.config.checks import Checked, Count
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seams import Remembering


class StudentObjective(ABC):
    """The student's loss, and the attack that perturbs the images it is trained on."""

    @abstractmethod
    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """The inner maximisation; leaves the networks as they were.

        Args:
            teacher: frozen.
            student: attacked in evaluation mode.
            batch: images, labels, places, and the teacher's logits on the images.
            threat: the ball.
            seed: of random starts.

        Returns:
            Perturbed images in [0, 1], B×C×H×W.
        """

    @abstractmethod
    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """The loss of the whole batch, a scalar; the student is in train mode.

        `batch` and `adv_BCHW`, from `examples`, are a process's share of it.
        """

    def backward(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """Leave the loss's gradient with the student's parameters; return the loss without one.

        Override it to combine the gradients of several tasks or teachers. Arguments as of
        `__call__`.
        """
        loss = self(student, batch, adv_BCHW, share)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027 -- optional
        """Set values that depend on the epoch, counted from 1, such as a temperature."""

    def end_epoch(self) -> None:  # noqa: B027 -- optional
        """Update the state of the classes from the epoch's batches."""

    def tallies(self) -> dict[str, Remembering]:
        """The statistics that `end_epoch` learns from, by name."""
        return {}

    def class_state(self) -> dict[str, Tensor]:
        """State of each class, such as weights: name → K. Nothing else outlasts an epoch."""
        return {}

    def load_class_state(self, remembered: Mapping[str, Tensor]) -> None:
        assert not remembered, f"{type(self).__name__} has no state, least of all {remembered}"


@dataclass(frozen=True)
class LossRecipe(Checked, ABC):
    """Constants of a distillation loss; a subclass's default of `name` is its name.

    Attributes:
        name: of the loss, in `LOSSES`. Setting it sets the whole section to that loss's own values,
            but keeps the attack's steps and their size where both losses use PGD, and the weights
            of the two terms among RSLAD and its descendants.
    """

    name: str = field(default="", init=False)

    def require_epochs(self, warmup: int, epochs: int) -> None:
        """Reject runs too short for the loss to become active; `warmup` epochs do not teach.

        Raises:
            UserError: it would never become active.
        """

    @property
    @abstractmethod
    def pgd_steps(self) -> int:
        """Steps in which an image is perturbed."""

    @abstractmethod
    def build(self, num_classes: int) -> StudentObjective:
        """The loss in its initial state."""


@dataclass(frozen=True)
class PGDLossRecipe(LossRecipe):
    """A loss whose attack is PGD within the ball.

    Attributes:
        attack_steps: of PGD.
        step_size: length of one.
    """

    attack_steps: Count = 10
    step_size: Fraction = Fraction(2, 255)

    @property
    def pgd_steps(self) -> int:
        return self.attack_steps
