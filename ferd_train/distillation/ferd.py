"""FERD's loss: equations 10 and 11 of arXiv 2509.20793. B batch, C × H × W pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ferd_eval.attacks import Batch, Passes, Threat
from ferd_train.distillation.base import StudentObjective, WalkingLossRecipe
from ferd_train.distillation.student_loss import StudentLoss
from ferd_train.distillation.utae import UTAE
from ferd_train.fields import require_not_negative, require_one_of
from ferd_train.workers import WHOLE, Share

#: Networks that UTAEs can be made against.
ATTACKED = ("teacher", "student")


@dataclass(frozen=True)
class FERDLossRecipe(WalkingLossRecipe):
    """Uniform-target adversarial examples, and two divergences from the teacher.

    Attributes:
        gamma: γ; 0 makes plain KL-PGD of the attack.
        network: whose prediction is moved: the teacher's (paper) or the student's (release).
        divergence: from the teacher, a name in `DIVERGENCES`.
        clean_weight: λ1; 5/6 in the paper.
        adversarial_weight: λ2; 1/6 in the paper.
    """

    name: str = field(default="ferd", init=False)
    gamma: float = 0.5
    network: str = "student"
    divergence: str = "kl"
    clean_weight: float = 0.5
    adversarial_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "gamma")
        require_one_of(self, "network", ATTACKED)
        _ = self.divergences

    @property
    def divergences(self) -> StudentLoss:
        """Equation 11."""
        return StudentLoss(self.divergence, self.clean_weight, self.adversarial_weight)

    @property
    def attack(self) -> UTAE:
        """Equation 10."""
        return UTAE(steps=self.attack_steps, step_size=self.step_size, gamma=self.gamma)

    def build(self, num_classes: int) -> FERDLoss:
        """The loss."""
        return FERDLoss(self)


class FERDLoss(StudentObjective):
    """λ1·D(p_T(x_F), p_S(x_F)) + λ2·D(p_T(x_F), p_S(x_U))."""

    def __init__(self, recipe: FERDLossRecipe) -> None:
        self._recipe = recipe
        self._attack, self._divergences = recipe.attack, recipe.divergences

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """x_U; the images themselves where their term has no weight."""
        if not self._recipe.adversarial_weight:
            return batch.x_BCHW
        network = teacher if self._recipe.network == "teacher" else student
        return self._attack.examples(network, batch, threat, seed=seed, passes=Passes())

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: Share = WHOLE
    ) -> Tensor:
        """Equation 11, the batch mean."""
        return self._divergences(
            student, batch.x_BCHW, adv_BCHW, batch.clean_logits_BK, batch.labels_B, share
        )
