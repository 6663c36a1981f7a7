"""Means over each class's images, gathered batch by batch. B batch, K classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ClassMeans:
    """Sums in double precision on the CPU; what several processes give must be gathered first."""

    def __init__(self, num_classes: int, columns: int = 1) -> None:
        """Of `columns` values for each image."""
        self._sum_KD = torch.zeros(num_classes, columns, dtype=torch.float64)
        self._count_K = torch.zeros(num_classes, dtype=torch.float64)

    def add(self, value_BD: Tensor, labels_B: Tensor) -> None:
        """Take in a batch."""
        labels_B = labels_B.cpu()
        self._sum_KD.index_add_(0, labels_B, value_BD.detach().double().cpu())
        self._count_K += torch.bincount(labels_B, minlength=len(self._count_K))

    def state_dict(self) -> dict[str, Any]:
        """What was taken in so far."""
        return {"sum": self._sum_KD, "count": self._count_K}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from what `state_dict` gave."""
        self._sum_KD, self._count_K = state["sum"], state["count"]

    def take(self) -> tuple[Tensor, Tensor]:
        """Means K×D, 0 where a class had no image, and whether it had any, K; then start anew."""
        seen_K = self._count_K > 0
        mean_KD = self._sum_KD / self._count_K.clamp(min=1)[:, None]
        self._sum_KD, self._count_K = (torch.zeros_like(x) for x in (self._sum_KD, self._count_K))
        return mean_KD, seen_K
