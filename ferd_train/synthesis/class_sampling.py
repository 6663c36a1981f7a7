"""How often each class is asked of the generator: the robustness-guided weights of FERD.

arXiv 2509.20793, equations 1 and 2: attack the new images, take each class's mean negative margin
on the teacher as its vulnerability, and turn vulnerabilities into sampling weights. On images that
the teacher has no robust hold of, every margin is negative and weights follow chance; the clean
cross-entropy still ranks classes as the teacher's errors on real images do. A new strategy is a
subclass of `Reweighting`, named in `STRATEGIES`.

B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from ferd_eval.attacks import PGD, Batch, Passes, Threat, frozen, losses
from ferd_eval.errors import UserError
from ferd_train.config.checks import Bound, Checked, OneOf, Positive
from ferd_train.training.process_group import WHOLE, BatchShard

#: Margins are measured on the logits, or the probabilities ("confidence" in the paper).
MARGIN_UNITS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits_BK: logits_BK,
    "probabilities": lambda logits_BK: logits_BK.softmax(dim=1),
}

#: PGD-20 with steps of 2/255, as in the paper.
ATTACK = PGD(steps=20, step_size=Fraction(2, 255))


def attacked_logits(
    teacher: nn.Module,
    x_BCHW: Tensor,
    labels_B: Tensor,
    *,
    threat: Threat,
    seed: int,
    attack: PGD = ATTACK,
    share: BatchShard = WHOLE,
) -> Tensor:
    """The teacher's logits, B×K, after PGD from a uniform start away from `labels_B`.

    Random starts are keyed by the place in the batch, of which the images may be a `share`.
    """
    places_B = share.places(x_BCHW)
    with frozen(teacher), torch.no_grad():
        clean_BK = teacher(x_BCHW)
    batch = Batch(x_BCHW, labels_B, places_B, clean_BK)
    adv_BCHW = attack.examples(teacher, batch, threat, seed=seed, passes=Passes())
    with frozen(teacher), torch.no_grad():
        logits_BK: Tensor = teacher(adv_BCHW)
    return logits_BK


def margins(logits_BK: Tensor, labels_B: Tensor, unit: str = "logits") -> Tensor:
    """Equation 1: m = f_y − max_{j≠y} f_j, shape B, of the logits or another of `MARGIN_UNITS`."""
    return -losses.margin(MARGIN_UNITS[unit](logits_BK), labels_B)


def class_vulnerability(
    value_B: Tensor, labels_B: Tensor, last_K: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Equation 2: the mean of a value over each class's images, K in double precision on the CPU.

    `last_K` is the last result, zeros at the start, which a class without images keeps; `smoothing`
    its share in the answer for the others, 0 in the paper.
    """
    value_B, last_K = value_B.detach().double().cpu(), last_K.double().cpu()
    of_class_KB = labels_B.cpu() == torch.arange(len(last_K))[:, None]
    count_K = of_class_KB.sum(dim=1)
    mean_K = (of_class_KB * value_B).sum(dim=1) / count_K.clamp(min=1)
    return torch.where(count_K > 0, smoothing * last_K + (1 - smoothing) * mean_K, last_K)


def capped(weights_K: Tensor, ratio: float) -> Tensor:
    """Weights mixed with even ones until the largest is `ratio` times the smallest; 0 for no cap.

    The order stays, and the sum of 1.
    """
    lowest, highest = weights_K.min(), weights_K.max()
    if not ratio or highest <= ratio * lowest:
        return weights_K
    raised_K = weights_K + (highest - ratio * lowest) / (ratio - 1)
    return raised_K / raised_K.sum()


def draw_labels(weights_K: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` independent classes with these probabilities."""
    return torch.multinomial(weights_K, count, replacement=True, generator=generator)


class Reweighting(Checked, ABC):
    """From the teacher's logits to sampling weights.

    Attributes:
        sees: the images whose logits `vulnerability` uses: ``attacked``, ``clean``, or empty for
            none, so that they need not be computed.
    """

    sees: ClassVar[str] = "attacked"

    @abstractmethod
    def vulnerability(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """A value for each image, B: the higher, the less robust the teacher."""

    @abstractmethod
    def weights(self, vulnerability_K: Tensor) -> Tensor:
        """Probabilities of the classes, K, from `class_vulnerability`."""


class OfMargins(Reweighting):
    """Base of the strategies that use margins."""

    unit: str

    def vulnerability(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        return -margins(logits_BK, labels_B, self.unit)


@dataclass(frozen=True)
class SoftmaxOfMargins(OfMargins):
    """softmax(D / τ) of the mean negative margins D: the paper's weights.

    Attributes:
        temperature: τ.
        unit: what margins are measured on, a name in `MARGIN_UNITS`. The paper says confidence,
            but with probabilities its weight of 0.314 for one class of ten would take margins near
            their very limits; with logits it is ordinary.
    """

    temperature: Positive = 1.0
    unit: Annotated[str, OneOf(MARGIN_UNITS)] = "logits"

    def weights(self, vulnerability_K: Tensor) -> Tensor:
        return softmax(vulnerability_K / self.temperature, dim=0)


@dataclass(frozen=True)
class MinMax(Reweighting):
    """Vulnerabilities stretched to [low, high], then made to add up to 1.

    The least vulnerable class has the share `low` before adding up, the most vulnerable `high`.
    """

    low: float = 0.05
    high: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.low <= self.high:
            raise UserError(f"low and high are {self.low} and {self.high}; give 0 < low <= high.")

    def weights(self, vulnerability_K: Tensor) -> Tensor:
        # Uniform where all classes are alike.
        lowest, highest = vulnerability_K.min(), vulnerability_K.max()
        if lowest == highest:
            return torch.full_like(vulnerability_K, 1 / len(vulnerability_K))
        place_K = (vulnerability_K - lowest) / (highest - lowest)
        stretched_K = self.low + (self.high - self.low) * place_K
        return stretched_K / stretched_K.sum()


@dataclass(frozen=True)
class MinMaxOfMargins(MinMax, OfMargins):
    """The weights of the authors' release since September 2025."""

    unit: Annotated[str, OneOf(MARGIN_UNITS)] = "logits"


@dataclass(frozen=True)
class Uniform(Reweighting):
    """Every class as often as any other: the ablation ``no-reweight``."""

    sees = ""

    def vulnerability(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        return torch.zeros_like(labels_B, dtype=torch.float64)

    def weights(self, vulnerability_K: Tensor) -> Tensor:
        return torch.full_like(vulnerability_K, 1 / len(vulnerability_K))


@dataclass(frozen=True)
class InverseAccuracy(Reweighting):
    """In proportion to 1 / accuracy under attack. This project's, for comparison.

    Attributes:
        floor: accuracies below count as this, so that a class at 0 does not take everything.
    """

    floor: Annotated[float, Bound(lambda floor: 0 < floor <= 1, "0 < {} <= 1")] = 0.05

    def vulnerability(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """1 where the attack succeeds, else 0; a tie is a success."""
        return (margins(logits_BK, labels_B) <= 0).double()

    def weights(self, vulnerability_K: Tensor) -> Tensor:
        """1 / max(floor, 1 − share of successes), made to add up to 1."""
        inverse_K = 1 / (1 - vulnerability_K).clamp(min=self.floor)
        return inverse_K / inverse_K.sum()


class OfLosses(Reweighting):
    """Base of the strategies that use the cross-entropy to the class asked for."""

    def vulnerability(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        return losses.cross_entropy(logits_BK, labels_B)


@dataclass(frozen=True)
class SoftmaxOfLosses(OfLosses):
    """softmax(L / τ) of the mean cross-entropies L under attack. This project's, for comparison."""

    temperature: Positive = 1.0

    def weights(self, vulnerability_K: Tensor) -> Tensor:
        return softmax(vulnerability_K / self.temperature, dim=0)


@dataclass(frozen=True)
class SoftmaxOfCleanLosses(SoftmaxOfLosses):
    """softmax(L / τ) of the mean cross-entropies L on the images as they are: this project's."""

    sees = "clean"


@dataclass(frozen=True)
class MinMaxOfCleanLosses(MinMax, OfLosses):
    """The weights of the authors' release of May 2025, before it took margins."""

    sees = "clean"


#: Strategies by the name a recipe calls them.
STRATEGIES: Mapping[str, type[Reweighting]] = {
    "margin-softmax": SoftmaxOfMargins,
    "margin-minmax": MinMaxOfMargins,
    "uniform": Uniform,
    "inverse-accuracy": InverseAccuracy,
    "loss": SoftmaxOfLosses,
    "clean-loss": SoftmaxOfCleanLosses,
    "clean-loss-minmax": MinMaxOfCleanLosses,
}
