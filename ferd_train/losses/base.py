"""What every distillation loss has in common. B batch, C channels, H × W pixels, K classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from torch import Tensor, nn

from ferd_eval.attacks import Batch, Threat
from ferd_train.config.checks import require_at_least
from ferd_train.losses.class_means import ClassMeans
from ferd_train.training.process_group import WHOLE, BatchShard


class StudentObjective(ABC):
    """What the student lowers, and the perturbed images that it is to withstand."""

    @abstractmethod
    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """The inner maximisation; the networks come out as they went in.

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

        Args:
            student: images to logits.
            batch: as of `examples`, a process's share.
            adv_BCHW: from `examples`.
            share: of the batch, that these are.
        """

    def backward(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """Leave the gradient with the student's parameters, and return the loss without one.

        Here the gradient of the loss. One of several tasks, or several teachers, may combine
        theirs otherwise; arguments are as of `__call__`.
        """
        loss = self(student, batch, adv_BCHW, share)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027 -- most stay as they are
        """Set what goes by the epoch, such as a temperature.

        Args:
            epoch: that begins, counted from 1.
            epochs: of the run.
        """

    def end_epoch(self) -> None:  # noqa: B027 -- most have nothing to learn
        """Learn from the epoch's batches what the next epoch is to go by."""

    def tallies(self) -> dict[str, ClassMeans]:
        """What it learns from at the epoch's end, by name."""
        return {}

    def class_state(self) -> dict[str, Tensor]:
        """What it goes by for each class, such as weights: name → K. All that outlasts an epoch."""
        return {}

    def load_class_state(self, remembered: Mapping[str, Tensor]) -> None:
        """Go on from what `class_state` gave."""
        assert not remembered, f"{type(self).__name__} remembers nothing, least of all {remembered}"


@dataclass(frozen=True)
class LossRecipe(ABC):
    """Constants of a distillation loss. A kind is a dataclass whose `name` is its name.

    Attributes:
        name: of the loss, in `LOSSES`. Setting it sets the whole section to that loss's own values,
            but for the attack's steps and their size where both losses walk, and for the weights of
            the two terms among RSLAD and its descendants.
    """

    name: str = field(default="", init=False)

    def require_epochs(self, warmup: int, epochs: int) -> None:  # noqa: B027 -- most need none
        """Refuse a run in which the loss would never come to what makes it itself.

        Args:
            warmup: epochs at the start that do not teach.
            epochs: of the run.

        Raises:
            UserError: so it is.
        """

    @property
    @abstractmethod
    def pgd_steps(self) -> int:
        """Steps in which an image is perturbed."""

    @abstractmethod
    def build(self, num_classes: int) -> StudentObjective:
        """The loss, at its beginning."""


@dataclass(frozen=True)
class PGDLossRecipe(LossRecipe):
    """A loss whose attack is a walk by signed gradients within the ball.

    Attributes:
        attack_steps: of the walk.
        step_size: length of one.
    """

    attack_steps: int = 10
    step_size: Fraction = Fraction(2, 255)

    def __post_init__(self) -> None:
        require_at_least(self, 1, "attack_steps")

    @property
    def pgd_steps(self) -> int:
        """Those of the attack."""
        return self.attack_steps
