"""Objectives an attack raises, one value per image. B batch, K classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy as _cross_entropy


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """−log softmax(z)_y."""
    return _cross_entropy(logits_BK, labels_B, reduction="none")


def margin(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """max_{j≠y} z_j − z_y: above 0 exactly where the image is misclassified."""
    label_B1 = labels_B.unsqueeze(1)
    true_B = logits_BK.gather(1, label_B1).squeeze(1)
    return logits_BK.scatter(1, label_B1, float("-inf")).amax(dim=1) - true_B
