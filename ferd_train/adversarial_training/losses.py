"""Losses of adversarial training, each with the attack it trains against.

A new one is a subclass of `RobustLoss`, made from a recipe in `ROBUST_LOSSES` and named in
`ferd_train.recipes`. B batch, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ferd_eval.attacks import PGD
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.recipes.teacher import TeacherRecipe


class RobustLoss(ABC):
    """The training loss on images perturbed by its own attack.

    Attributes:
        attack: the inner maximisation.
    """

    attack: ClassVar[type[PGD]]

    @abstractmethod
    def __call__(
        self, network: nn.Module, x_BCHW: Tensor, adv_BCHW: Tensor, labels_B: Tensor
    ) -> Tensor:
        """The loss of a batch, a scalar; the network is in train mode."""


@dataclass(frozen=True)
class PGDAdversarialTraining(RobustLoss):
    """CE(f(x_adv), y), the batch mean. Madry et al., ICLR 2018, equation 2.1."""

    attack = PGD

    def __call__(
        self, network: nn.Module, x_BCHW: Tensor, adv_BCHW: Tensor, labels_B: Tensor
    ) -> Tensor:
        return F.cross_entropy(network(adv_BCHW), labels_B)


@dataclass(frozen=True)
class TRADES(RobustLoss):
    """CE(f(x), y) + β·KL(p(x) ‖ p(x_adv)), the batch mean. Zhang et al., ICML 2019, equation 5.

    The gradient flows through both predictions, as in the authors' code.
    """

    beta: float
    attack = KLPGD

    def __call__(
        self, network: nn.Module, x_BCHW: Tensor, adv_BCHW: Tensor, labels_B: Tensor
    ) -> Tensor:
        clean_BK, adv_BK = network(x_BCHW), network(adv_BCHW)
        robust = F.kl_div(
            adv_BK.log_softmax(1), clean_BK.log_softmax(1), reduction="batchmean", log_target=True
        )
        return F.cross_entropy(clean_BK, labels_B) + self.beta * robust


#: Losses by the name a recipe calls them.
ROBUST_LOSSES: Mapping[str, Callable[[TeacherRecipe], RobustLoss]] = {
    "pgd-at": lambda recipe: PGDAdversarialTraining(),
    "trades": lambda recipe: TRADES(recipe.trades_beta),
}
