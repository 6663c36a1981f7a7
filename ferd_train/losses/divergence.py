"""Divergences between predictions, from their logits, one value per image. B batch, K classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import kl_div


def kl(p_BK: Tensor, q_BK: Tensor) -> Tensor:
    """KL(softmax p ‖ softmax q) = Σ_k p_k log(p_k / q_k), shape B."""
    return kl_div(
        q_BK.log_softmax(dim=1), p_BK.log_softmax(dim=1), reduction="none", log_target=True
    ).sum(dim=1)


def kl_from_uniform(logits_BK: Tensor) -> Tensor:
    """KL(U ‖ softmax z) with U = 1/K, shape B."""
    return -logits_BK.log_softmax(dim=1).mean(dim=1) - math.log(logits_BK.shape[1])


def soft_cross_entropy(p_BK: Tensor, q_BK: Tensor) -> Tensor:
    """−Σ_k p_k log q_k of the softmaxes, shape B: KL plus the entropy of p."""
    return -(p_BK.softmax(dim=1) * q_BK.log_softmax(dim=1)).sum(dim=1)


def jensen_shannon(p_BK: Tensor, q_BK: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) of the softmaxes, m their mean, shape B; at most log 2."""
    log_p_BK, log_q_BK = p_BK.log_softmax(dim=1), q_BK.log_softmax(dim=1)
    log_m_BK = torch.logaddexp(log_p_BK, log_q_BK) - math.log(2)
    of_p_BK = log_p_BK.exp() * (log_p_BK - log_m_BK)
    of_q_BK = log_q_BK.exp() * (log_q_BK - log_m_BK)
    return (of_p_BK + of_q_BK).sum(dim=1) / 2


def pairwise_gap(a_BK: Tensor, b_BK: Tensor, weights_BK: Tensor) -> Tensor:
    """¼ Σ_jk w_j w_k ((a_j − a_k) − (b_j − b_k))², shape B, for weights that add up to 1.

    Cui et al., "Decoupled Kullback–Leibler divergence loss", NeurIPS 2024, the first term of
    equation 5. It is half the weighted variance of a − b, so K × K numbers are never made.
    """
    gap_BK = a_BK - b_BK
    mean_B1 = (weights_BK * gap_BK).sum(dim=1, keepdim=True)
    return (weights_BK * (gap_BK - mean_B1).square()).sum(dim=1) / 2


def class_mean_probabilities(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """For each image the mean softmax over the batch's images of its class, B×K.

    The weights of IKL in Cui et al., which there are means over the training set.
    """
    p_BK = logits_BK.softmax(dim=1)
    same_BB = (labels_B[:, None] == labels_B[None, :]).to(p_BK.dtype)
    return same_BB @ p_BK / same_BB.sum(dim=1, keepdim=True)


def improved_kl(
    teacher_BK: Tensor,
    student_BK: Tensor,
    labels_B: Tensor,
    *,
    pairwise_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
) -> Tensor:
    """IKL of Cui et al., NeurIPS 2024, equation 7, shape B; the later version of FERD uses it.

    ¼ of the squared pairwise differences of the logits, with gradient, weighed by the mean
    prediction of the image's class, and the soft cross-entropy. The teacher's means are taken over
    the batch; they are constants. The weights are β and α of the authors' code; 1 is equation 7.
    """
    weights_BK = class_mean_probabilities(teacher_BK.detach(), labels_B)
    pairwise_B = pairwise_gap(teacher_BK, student_BK, weights_BK)
    crossed_B = soft_cross_entropy(teacher_BK, student_BK)
    return pairwise_weight * pairwise_B + cross_entropy_weight * crossed_B
