"""Improved KL: a pairwise term that stays alive for both networks, and cross-entropy.

Cui et al., "Decoupled Kullback-Leibler divergence loss", NeurIPS 2024. B batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ferd_train.adversary import KLPGD
from ferd_train.distillation.student_loss import StudentLoss
from ferd_train.distillation.two_terms import TwoTerms, TwoTermsRecipe


@dataclass(frozen=True)
class IKLRecipe(TwoTermsRecipe):
    """RSLAD's two terms with IKL (equation 7) in place of KL.

    The pairwise differences are weighed by the mean prediction of the image's class. The authors
    take that mean over the training set; here it is over the batch, for without data there is no
    set. The release of FERD weighs them by outer products of one-hot labels, of which only the
    pair of the class with itself is left, whose difference is 0: its term is dead.
    """

    name: str = field(default="ikl", init=False)

    @property
    def divergences(self) -> StudentLoss:
        """Both terms."""
        return StudentLoss("ikl", self.clean_weight, self.adversarial_weight)

    def build(self, num_classes: int) -> TwoTerms:
        """The loss."""
        return TwoTerms(KLPGD(self.attack_steps, self.step_size), self.divergences)
