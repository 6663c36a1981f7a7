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
        return attack_phase(len(self._rows_N), batch_size)

    def figures(self, network: nn.Module, seams: Seams) -> ValidationFigures:
        """Attack a network, which stays unchanged; the run may stop between two batches."""
        clean: list[Tensor] = []
        robust: list[Tensor] = []
        attack = validation_attack(self._eps)
        batches = in_batches(self._rows_N)
        parts = {"clean": clean, "robust": robust}
        for number in seams.steps(VALIDATION_BATCH, len(batches), parts):
            x_BCHW, y_B, index_B = take(self._data, batches[number], self._device)
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
        labels_N = self._data.labels_N[self._rows_N]
        clean_K, robust_K = (
            list(class_means(right_N, labels_N).values()) for right_N in (clean_N, robust_N)
        )
        return ValidationFigures(
            float(clean_N.mean()),
            min(clean_K),
            float(np.mean(robust_K)),
            min(robust_K),
        )


def in_batches(rows_N: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows, split into batches that are looked at together."""
    return np.array_split(rows_N, -(-len(rows_N) // _AT_ONCE))


def attack_phase(images: int, batch_size: int, networks: int = 1, begins: int = 1) -> Phase:
    """The cost of attacking networks on so many images, in passes of batches of that size."""
    batches = len(in_batches(np.arange(images)))
    return Phase(batches, networks * (_STEPS + 1) * _AT_ONCE / batch_size, begins)


def validation_attack(eps: Fraction) -> PGD:
    """PGD-10 with steps of ε/4."""
    return PGD(steps=_STEPS, step_size=eps / 4)


def class_means(
    right_N: NDArray[np.bool_], labels_N: NDArray[np.int64], least: int = 1
) -> dict[int, float]:
    """Share of each class's images that are right, of the classes with `least` images or more."""
    classes, counts = np.unique(labels_N, return_counts=True)
    return {
        int(label): float(right_N[labels_N == label].mean()) for label in classes[counts >= least]
    }


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
