"""Figures on held-out real images during training.

B batch, K classes, N images.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat, frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_train.training.pace import Phase
from ferd_train.training.seams import Seams

#: The phase of validation.
VALIDATION_BATCH = "validation batch"

# Batch size, and steps of the attack.
_AT_ONCE, _STEPS = 500, 10


@dataclass(frozen=True)
class ValidationFigures:
    """Accuracies, as fractions; ``worst_class`` is that of the class with the lowest.

    Attributes:
        clean: of all images.
        pgd: under PGD-10 with steps of ε/4, the mean of the classes.
    """

    clean: float
    clean_worst_class: float
    pgd: float
    pgd_worst_class: float


class Validation:
    """Held-out images, and the attack on them."""

    def __init__(
        self,
        data: LabelledImages,
        rows_N: NDArray[np.int64],
        eps: Fraction,
        device: torch.device,
        seed: int,
    ) -> None:
        """Of the rows `rows_N`; random starts are keyed by `seed`."""
        self._data, self._rows_N = data, rows_N
        self._eps, self._device, self._seed = eps, device, seed

    def phase(self, batch_size: int) -> Phase:
        """Its cost after an epoch, in passes of batches of that size."""
        return Phase(self._batches, (_STEPS + 1) * _AT_ONCE / batch_size)

    @property
    def _batches(self) -> int:
        return -(-len(self._rows_N) // _AT_ONCE)

    def figures(self, network: nn.Module, seams: Seams) -> ValidationFigures:
        """Attack a network, which stays unchanged; the run may stop between two batches."""
        attack = PGD(steps=_STEPS, step_size=self._eps / 4)
        clean: list[Tensor] = []
        robust: list[Tensor] = []
        batches = np.array_split(self._rows_N, self._batches)
        parts = {"clean": clean, "robust": robust}
        for number in seams.steps(VALIDATION_BATCH, self._batches, parts):
            rows_B = batches[number]
            x_BCHW, y_B, index_B = take(self._data, rows_B, self._device)
            with frozen(network), torch.no_grad():
                logits_BK = network(x_BCHW)
            verdicts = attack(
                network,
                Batch(x_BCHW, y_B, index_B, logits_BK),
                Threat(self._eps),
                seed=self._seed,
                passes=Passes(),
            )
            clean.append(logits_BK.argmax(1) == y_B)
            robust.append(verdicts.adv_pred_R == y_B)
        clean_N, robust_N = (torch.cat(each).cpu().numpy() for each in (clean, robust))
        clean_K, robust_K = self._by_class(clean_N), self._by_class(robust_N)
        return ValidationFigures(
            float(clean_N.mean()),
            float(clean_K.min()),
            float(robust_K.mean()),
            float(robust_K.min()),
        )

    def _by_class(self, right_N: NDArray[np.bool_]) -> NDArray[np.float64]:
        labels_N = self._data.labels_N[self._rows_N]
        return np.array([right_N[labels_N == label].mean() for label in np.unique(labels_N)])


def take(
    data: LabelledImages, rows_B: NDArray[np.int64], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels in [0, 1], labels and positions in the data set of these rows."""
    pixels = torch.from_numpy(data.images_NCHW[rows_B]).to(device)
    x_BCHW = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
    y_B = torch.from_numpy(data.labels_N[rows_B]).to(device)
    return x_BCHW, y_B, torch.from_numpy(data.indices_N[rows_B]).to(device)


def hold_out(
    labels_N: NDArray[np.int64], per_class: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, and rows held out: the last `per_class` of each class in file order.

    Raises:
        UserError: a class has no image left to train on.
    """
    held_out_N = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        if len(rows) <= per_class:
            raise UserError(
                f"class {label} has {len(rows)} training images, but {per_class} are to be held "
                "out for validation: lower validation_per_class."
            )
        held_out_N[rows[-per_class:]] = True
    return np.flatnonzero(~held_out_N), np.flatnonzero(held_out_N)
