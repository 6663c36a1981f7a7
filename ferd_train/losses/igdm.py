"""The teacher's input gradient, taught by differences of outputs: Lee, Cho and Kim, "Indirect
gradient matching for adversarial robust distillation", ICLR 2025 (arXiv 2312.03286).

B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ferd_eval.attacks import Batch, Passes, Threat
from ferd_train.config.checks import NotNegative
from ferd_train.losses.divergence import kl
from ferd_train.losses.two_terms import TwoTerms, TwoTermsRecipe
from ferd_train.training.process_group import WHOLE, BatchShard


@dataclass(frozen=True)
class IGDMRecipe(TwoTermsRecipe):
    """RSLAD's two terms, and one that makes the student answer a perturbation as the teacher does.

    α·e/E · KL(softmax(z_T(x+δ) − z_T(x−δ)) ‖ softmax(z_S(x+δ) − z_S(x−δ))), the batch mean, in
    epoch e of E, with logits z and δ = x_adv − x of RSLAD's attack. Where networks are nearly
    linear within the ball, as robust ones are, the difference is 2·δᵀ∇z, so equal differences mean
    equal gradients along δ.

    The idea is the paper's abstract. Its equations (8 and 9) could not be read; the form, KL of the
    softmaxes and the rise with e/E are as public code that presents itself as the authors' adds
    them to RSLAD, unchecked against the paper. There α is 20 for CIFAR-100, and 1 for CIFAR-10 in
    code of a later method, SAAD. As there, x−δ may leave [0, 1], and goes through the student as a
    batch with statistics of its own. Deviations: x−δ comes last, not first of RSLAD's batches;
    E counts all epochs, with their warm-up, where that code has 200; RSLAD's terms are scaled as in
    `RSLADRecipe`.

    Attributes:
        gradient_weight: α; 0 leaves RSLAD.
    """

    name: str = field(default="igdm", init=False)
    gradient_weight: NotNegative = 1.0

    def build(self, num_classes: int) -> IGDM:
        return IGDM(self)


class IGDM(TwoTerms):
    """RSLAD with a third term; what the teacher answers is asked in `examples`."""

    def __init__(self, recipe: IGDMRecipe) -> None:
        super().__init__(recipe)
        self._full_weight = self._weight = recipe.gradient_weight
        self._taught: tuple[Tensor, Tensor] | None = None

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """The third term's weight rises evenly, to α in the last epoch."""
        self._weight = self._full_weight * epoch / epochs

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """x_adv, also where only the third term needs it."""
        if not self._weight:
            return super().examples(teacher, student, batch, threat, seed)
        adv_BCHW = self._attack.examples(student, batch, threat, seed=seed, passes=Passes())
        with torch.no_grad():
            self._taught = adv_BCHW, teacher(adv_BCHW) - teacher(opposite(batch, adv_BCHW))
        return adv_BCHW

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        """All terms, batch means; the student sees the clean batch, then x+δ, then x−δ."""
        if not self._weight:
            return super().__call__(student, batch, adv_BCHW, share)
        assert self._taught is not None, "examples come first"
        taught_BCHW, difference_BK = self._taught
        assert adv_BCHW is taught_BCHW, "the teacher answered other examples"
        teacher_BK, terms = share.gather(batch.clean_logits_BK), []
        if self.loss.clean_weight:
            clean_BK = share.gather(student(batch.x_BCHW))
            terms.append(self.loss.clean_weight * kl(teacher_BK, clean_BK).mean())
        plus_BK = share.gather(student(adv_BCHW))
        terms.append(self.loss.adversarial_weight * kl(teacher_BK, plus_BK).mean())
        minus_BK = share.gather(student(opposite(batch, adv_BCHW)))
        gradient_B = kl(share.gather(difference_BK), plus_BK - minus_BK)
        terms.append(self._weight * gradient_B.mean())
        return torch.stack(terms).sum()


def opposite(batch: Batch, adv_BCHW: Tensor) -> Tensor:
    """x−δ for x+δ, unclipped: clipping would make the two unequally far from x."""
    return 2 * batch.x_BCHW - adv_BCHW
