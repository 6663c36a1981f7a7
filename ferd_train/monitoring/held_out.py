"""Agreement of student and teacher on synthetic images that are never trained on.

A student's quality without data. Public code of data-free adversarial training looks at a held-out
thousand of its synthetic images in this way; that the figure ranks students as real images do is
tested in ``tests/train/monitoring/test_held_out.py``. What the student sees is compared with what
the teacher sees, not with the class that was asked for. B batch, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.pace import Phase
from ferd_train.training.seams import Seams
from ferd_train.training.validation import attack_phase, class_means, in_batches, judged

#: The phase of looking at held-out images.
HELD_OUT_BATCH = "held-out batch"

# Images that are looked at, and images of a class that is judged by itself.
_MOST, _FEWEST = 500, 5


@dataclass(frozen=True)
class HeldOutFigures:
    """Agreements, as fractions of the images.

    Attributes:
        images: looked at.
        clean: share in which the student, in evaluation mode, sees the teacher's class.
        clean_lowest: the same of the class, by what the teacher sees, with the lowest share; None
            if no class has five images.
        clean_lowest_in: that class.
        pgd, pgd_lowest, pgd_lowest_in: the same under PGD-10 with steps of ε/4 on the student.
    """

    images: int
    clean: float
    clean_lowest: float | None
    clean_lowest_in: int | None
    pgd: float
    pgd_lowest: float | None
    pgd_lowest_in: int | None

    @property
    def score(self) -> float:
        """Agreement under attack, average and lowest class in equal parts."""
        return self.pgd if self.pgd_lowest is None else (self.pgd + self.pgd_lowest) / 2


def held_out_phase(batch_size: int, networks: int, begins: int) -> Phase:
    """Its cost after an epoch, in passes of batches of that size."""
    return attack_phase(_MOST, batch_size, networks, begins)


def spread(count: int) -> NDArray[np.int64]:
    """Places of the images looked at, of `count`: all up to 500, else 500 spread evenly.

    Evenly, because the student draws from all epochs alike; the newest alone would judge it by the
    last rounds of image making, and by other images after each epoch.
    """
    looked_at = min(count, _MOST)
    return (2 * np.arange(looked_at) + 1) * count // (2 * max(looked_at, 1))


def agreement(
    networks: Sequence[nn.Module],
    bank: Bank,
    *,
    eps: Fraction,
    device: torch.device,
    seed: int,
    seams: Seams,
) -> list[HeldOutFigures]:
    """Figures of each network, which stay unchanged; the run may stop between two batches.

    Random starts are keyed by `seed` and the place in the bank.
    """
    batches = in_batches(spread(len(bank)))
    clean: list[list[Tensor]] = [[] for _ in networks]
    robust: list[list[Tensor]] = [[] for _ in networks]
    parts = {
        f"{name} {number}": list_
        for name, lists in (("clean", clean), ("robust", robust))
        for number, list_ in enumerate(lists)
    }
    for number in seams.steps(HELD_OUT_BATCH, len(batches), parts):
        bytes_BCHW, seen_B = bank.read(batches[number])
        x_BCHW = torch.from_numpy(bytes_BCHW).to(device).float().div_(255)
        y_B, place_B = (torch.from_numpy(each).to(device) for each in (seen_B, batches[number]))
        for network, of_clean, of_robust in zip(networks, clean, robust, strict=True):
            is_clean_B, is_robust_B = judged(network, x_BCHW, y_B, place_B, eps, seed)
            of_clean.append(is_clean_B)
            of_robust.append(is_robust_B)
    _, seen_N = bank.read(spread(len(bank)))
    return [
        _figures(torch.cat(of_clean).cpu().numpy(), torch.cat(of_robust).cpu().numpy(), seen_N)
        for of_clean, of_robust in zip(clean, robust, strict=True)
    ]


def _figures(
    clean_N: NDArray[np.bool_], robust_N: NDArray[np.bool_], seen_N: NDArray[np.int64]
) -> HeldOutFigures:
    lowest: list[tuple[float | None, int | None]] = []
    for right_N in (clean_N, robust_N):
        of_class = class_means(right_N, seen_N, _FEWEST)
        label = min(of_class, key=of_class.__getitem__, default=None)
        lowest.append((None, None) if label is None else (of_class[label], label))
    return HeldOutFigures(
        len(seen_N), float(clean_N.mean()), *lowest[0], float(robust_N.mean()), *lowest[1]
    )
