"""The generator's loss: equations 7 to 9 of FERD (arXiv 2509.20793).

``L_gen = λ_adv·L_adv + λ_bn·L_bn + λ_oh·L_oh + λ_uni·L_uni``, means over the batch. A term whose
weight is 0 is not computed. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_train.config.checks import OneOf
from ferd_train.losses.divergence import kl, kl_from_uniform, pairwise_gap, soft_cross_entropy
from ferd_train.synthesis.components.bn_statistics import BatchNormMatching, watched
from ferd_train.synthesis.components.bottleneck import Bottleneck
from ferd_train.synthesis.components.feature_layer import split
from ferd_train.training.process_group import WHOLE, BatchShard

# The release flattens the teacher's prediction by this much where it weighs pairs of classes.
_PAIR_TEMPERATURE = 100.0


def minus_kl(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """−KL(p_T ‖ p_S), the batch mean.

    Equation 9 prints a plus, but the text wants divergence, so the negative is minimised.
    """
    return -kl(teacher_BK, student_BK).mean()


def minus_decoupled_kl(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """Minus the decoupled KL of the authors' release, the batch mean.

    ¼ of the squared pairwise differences of the logits, weighed by softmax(f_T/100) twice, and the
    soft cross-entropy to the teacher's prediction, which is a constant there. The pairwise term
    sends gradients through both networks; its weights are constants, as in Cui et al. 2024.
    """
    weights_BK = (teacher_BK.detach() / _PAIR_TEMPERATURE).softmax(dim=1)
    pairwise_B = pairwise_gap(teacher_BK, student_BK, weights_BK)
    return -(pairwise_B + soft_cross_entropy(teacher_BK.detach(), student_BK)).mean()


def agreeing_minus_kl(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """−KL(p_T ‖ p_S), 0 where they see different classes, the mean over all images.

    The adversarial term of CMI and FastDFKD (Fang et al. 2021 and 2022).
    """
    agree_B = teacher_BK.argmax(1) == student_BK.argmax(1)
    return -(kl(teacher_BK, student_BK) * agree_B).mean()


#: L_adv by name: the paper's and the release's.
ADVERSARIAL_TERMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": minus_kl,
    "decoupled": minus_decoupled_kl,
}


def one_hot(teacher_BK: Tensor, labels_B: Tensor) -> Tensor:
    """L_oh of equation 8: CE(f_T(x), y), the batch mean."""
    return cross_entropy(teacher_BK, labels_B)


def uniformity(non_robust_BK: Tensor) -> Tensor:
    """L_uni of equation 7: KL(U ‖ softmax f_{l+}(Z_nr)), the batch mean, from those logits."""
    return kl_from_uniform(non_robust_BK).mean()


#: From a step's terms by name to their weights. They are detached, for weights that adapt.
Weigher = Callable[[Mapping[str, Tensor]], Mapping[str, "float | Tensor"]]


class GeneratorObjective:
    """L_gen of a batch of images, given both networks, which the caller holds frozen.

    The teacher's trunk runs once for all terms; L_bn sees that pass and the student's alone, never
    the tail's runs on altered features.

    Raises:
        UserError: no such adversarial term, or the teacher lacks what a term that is on needs: a
            known feature layer, or batch normalisation.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        weights: Mapping[str, float],
        *,
        bottleneck: Bottleneck,
        layer: str | None = None,
        adversarial: str = "kl",
        match_student: bool = True,
        weigher: Weigher | None = None,
    ) -> None:
        """Compose the terms.

        Args:
            weights: of ``adv``, ``bn``, ``oh`` and ``uni``; a term of weight 0 is off.
            bottleneck: finds the features that are not robust.
            layer: after which the teacher is cut; None for its family's default.
            adversarial: a name in `ADVERSARIAL_TERMS`.
            match_student: L_bn over the student's layers too (paper; the release: the teacher's).
            weigher: of the terms that are on; None for the constant `weights`.
        """
        OneOf(ADVERSARIAL_TERMS).require("adversarial term", adversarial)
        self._teacher, self._student, self._weights = teacher, student, weights
        self._weigher = weigher or (lambda terms: weights)
        self._bottleneck = bottleneck
        self._adversarial = ADVERSARIAL_TERMS[adversarial]
        self._halves = split(teacher, layer) if weights["uni"] else None
        self._matching = None
        if weights["bn"]:
            self._matching = BatchNormMatching(teacher, *([student] if match_student else []))
        self._student_runs = bool(weights["adv"] or (weights["bn"] and match_student))

    def __call__(
        self,
        x_BCHW: Tensor,
        labels_B: Tensor,
        generator: torch.Generator,
        share: BatchShard = WHOLE,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Score images in [0, 1] made for these labels; the bottleneck draws from `generator`.

        Returns:
            L_gen, a scalar with gradient, and the unweighted terms that are on, detached; beside
            L_uni also ``masked``, the share of channels that are not robust. Given a process's
            share of a batch, both are the whole batch's.
        """
        weights, gather = self._weights, share.gather
        student_BK = None
        with watched(self._matching, share) as distances:
            if self._halves is None:
                z_BCHW, teacher_BK = None, self._teacher(x_BCHW)
            else:
                z_BCHW, teacher_BK = self._halves(x_BCHW)
            if self._student_runs:
                student_BK = gather(self._student(x_BCHW))
        teacher_BK = gather(teacher_BK)
        terms: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        if weights["adv"]:
            assert student_BK is not None
            terms["adv"] = self._adversarial(teacher_BK, student_BK)
        if weights["bn"]:
            terms["bn"] = torch.stack(distances).sum()
        if weights["oh"]:
            terms["oh"] = one_hot(teacher_BK, gather(labels_B))
        if self._halves is not None:
            assert z_BCHW is not None
            tail = self._halves.tail
            kept_BCHW, mask_BC = self._bottleneck.non_robust(
                tail, z_BCHW, labels_B, generator, share
            )
            terms["uni"] = uniformity(gather(tail(kept_BCHW)))
            figures["masked"] = gather(mask_BC.to(z_BCHW.dtype)).mean()
        seen = {name: term.detach() for name, term in terms.items()}
        weight = self._weigher(seen)
        weighted = [weight[name] * term for name, term in terms.items()]
        return torch.stack(weighted).sum(), {**seen, **figures}
