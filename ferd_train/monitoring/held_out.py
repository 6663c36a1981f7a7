"""Agreement of student and teacher on synthetic images that are never trained on.

A student's quality without data: what it sees is compared with what the teacher sees, not with the
class that was asked for. Public code of data-free adversarial training looks at a held-out thousand
of its synthetic images likewise.

Under attack, student and teacher are compared on the same attacked image, S(x') = T(x'). To ask for
the class of the clean image, as one does with real data, goes wrong where images are fragile: the
teacher itself loses its class on most of them, and a student that copies it best scores lowest. On
generator images of which the packaged teacher held 12 %, that figure had no rank correlation (0.0)
with the accuracy under PGD-10 on real images, of six copies with noise on their weights; this one
had 1.0. Both are blind in part: with three copies added that had lost robustness alone, this one
had 0.68 there and the other −0.23; on images of which the teacher held 78 %, 0.83 and 0.88. One
teacher, one seed of the noise. B batch, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import Batch, Passes, Threat, frozen
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.pace import Phase
from ferd_train.training.seams import Seams
from ferd_train.training.validation import (
    attack_phase,
    class_means,
    in_batches,
    validation_attack,
)

#: The phase of looking at held-out images.
HELD_OUT_BATCH = "held-out batch"

# Images that are looked at, and images of a class that is judged by itself.
_MOST, _FEWEST = 500, 5


@dataclass(frozen=True)
class HeldOutFigures:
    """Agreements, as fractions of the images.

    Attributes:
        images: looked at.
        clean: share in which the student, in evaluation mode, sees what the teacher sees.
        clean_lowest: the same of the class, by what the teacher sees, with the lowest share; None
            if no class has five images.
        clean_lowest_in: that class.
        pgd, pgd_lowest, pgd_lowest_in: the same, both looking at the images after PGD-10 with steps
            of ε/4 against the student, away from the teacher's class of the clean image. Classes
            are those of the clean images.
        teacher_holds: share of these attacked images in which the teacher still sees its class.
            Where it is low the images are fragile, and ``pgd`` tells less of robustness.
    """

    images: int
    clean: float
    clean_lowest: float | None
    clean_lowest_in: int | None
    pgd: float
    pgd_lowest: float | None
    pgd_lowest_in: int | None
    teacher_holds: float

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
    students: Sequence[nn.Module],
    teacher: nn.Module,
    bank: Bank,
    *,
    eps: Fraction,
    device: torch.device,
    seed: int,
    seams: Seams,
) -> list[HeldOutFigures]:
    """Figures of each student. Networks stay unchanged; the run may stop between two batches.

    Random starts are keyed by `seed` and the place in the bank.
    """
    attack, batches = validation_attack(eps), in_batches(spread(len(bank)))
    seen: list[Tensor] = []
    # Rows: whether student and teacher agree, and under attack, and whether the teacher holds.
    outcomes: list[list[Tensor]] = [[] for _ in students]
    parts = {"seen": seen, **{f"student {n}": each for n, each in enumerate(outcomes)}}
    for number in seams.steps(HELD_OUT_BATCH, len(batches), parts):
        bytes_BCHW = bank.read(batches[number])[0]
        x_BCHW = torch.from_numpy(bytes_BCHW).to(device).float().div_(255)
        place_B = torch.from_numpy(batches[number]).to(device)
        with frozen(teacher), torch.no_grad():
            seen_B = teacher(x_BCHW).argmax(1)
        for student, outcomes_3B in zip(students, outcomes, strict=True):
            with frozen(student), torch.no_grad():
                logits_BK = student(x_BCHW)
            adv_BCHW = attack.examples(
                student,
                Batch(x_BCHW, seen_B, place_B, logits_BK),
                Threat(eps),
                seed=seed,
                passes=Passes(),
            )
            with frozen(student), frozen(teacher), torch.no_grad():
                ours_B, theirs_B = student(adv_BCHW).argmax(1), teacher(adv_BCHW).argmax(1)
            outcomes_3B.append(
                torch.stack([logits_BK.argmax(1) == seen_B, ours_B == theirs_B, theirs_B == seen_B])
            )
        seen.append(seen_B)
    seen_N = torch.cat(seen).cpu().numpy()
    return [_figures(torch.cat(each, dim=1).cpu().numpy(), seen_N) for each in outcomes]


def _figures(outcomes_3N: NDArray[np.bool_], seen_N: NDArray[np.int64]) -> HeldOutFigures:
    clean_N, pgd_N, holds_N = outcomes_3N
    clean_lowest, clean_class = _lowest(clean_N, seen_N)
    pgd_lowest, pgd_class = _lowest(pgd_N, seen_N)
    return HeldOutFigures(
        images=len(seen_N),
        clean=float(clean_N.mean()),
        clean_lowest=clean_lowest,
        clean_lowest_in=clean_class,
        pgd=float(pgd_N.mean()),
        pgd_lowest=pgd_lowest,
        pgd_lowest_in=pgd_class,
        teacher_holds=float(holds_N.mean()),
    )


def _lowest(
    agrees_N: NDArray[np.bool_], seen_N: NDArray[np.int64]
) -> tuple[float | None, int | None]:
    """Share and number of the class with the lowest share of agreement."""
    of_class = class_means(agrees_N, seen_N, _FEWEST)
    if not of_class:
        return None, None
    label = min(of_class, key=of_class.__getitem__)
    return of_class[label], label
