"""Improved KL: a pairwise term that stays alive for both networks, and cross-entropy.

Cui et al., "Decoupled Kullback-Leibler divergence loss", NeurIPS 2024. B batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ferd_eval.errors import UserError
from ferd_train.config.checks import NotNegative
from ferd_train.losses.divergence import improved_kl
from ferd_train.losses.two_terms import TwoTermsRecipe


@dataclass(frozen=True)
class IKLRecipe(TwoTermsRecipe):
    """RSLAD's two terms with IKL (equation 7) in place of KL.

    The pairwise differences are weighed by the mean prediction of the image's class. The release of
    FERD weighs them by outer products of one-hot labels, which leaves only the pair of the class
    with itself, whose difference is 0: its term is dead.

    Deviations: the mean predictions are the teacher's over the batch; in the authors' code they are
    the network's own over the epoch before, at temperature 4, even ones at first. Both terms here
    are equation 7's; in their code α = 4 and β = 20 for adversarial training on CIFAR-10. Its first
    version sums over pairs and takes the mean of the images, as here; its second (GKL) divides by
    the sum of all weights instead, which is the same where mean predictions add up to 1.

    Attributes:
        pairwise_weight: β, of the pairwise part of both terms.
        cross_entropy_weight: α, of the cross-entropy part of both terms.
    """

    name: str = field(default="ikl", init=False)
    pairwise_weight: NotNegative = 1.0
    cross_entropy_weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pairwise_weight and not self.cross_entropy_weight:
            raise UserError(
                "pairwise_weight and cross_entropy_weight are both 0, so the student learns "
                "nothing; raise one of them."
            )

    def per_image(self, teacher_BK: Tensor, student_BK: Tensor, labels_B: Tensor) -> Tensor:
        return improved_kl(
            teacher_BK,
            student_BK,
            labels_B,
            pairwise_weight=self.pairwise_weight,
            cross_entropy_weight=self.cross_entropy_weight,
        )
