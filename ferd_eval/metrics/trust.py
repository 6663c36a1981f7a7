"""Is the attack itself to be believed? Signs that figures say more of the attack than of the model.

Carlini et al., "On evaluating adversarial robustness" (2019), §5; Croce & Hein (ICML 2020). K
classes, N images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtrc

from ferd_eval.outcomes import Outcomes

#: Level of the test for a weaker attack that breaks more, over all images or over all classes.
_LEVEL = 0.01

#: A gap between PGD and AutoAttack from which PGD alone is misleading, as a fraction.
_WIDE_GAP = 0.05

#: Clean accuracy below this multiple of chance is no trained network.
_NEAR_CHANCE = 2.0


def trust_flags(outcomes: Outcomes) -> tuple[str, ...]:
    """Sentences on what is suspicious in a run; empty when nothing is."""
    present = set(outcomes.attacks)
    flags: list[str] = []
    if "clean" in present:
        flags += _near_chance(outcomes)
    if {"fgsm", "pgd"} <= present:
        flags += _masking(outcomes)
    if {"pgd", "aa"} <= present:
        flags += _gap(outcomes)
    if "aa" in present:
        flags += _square(outcomes)
    return tuple(flags)


def excess_p(
    weaker_only: NDArray[np.int64], stronger_only: NDArray[np.int64]
) -> NDArray[np.float64]:
    """One-sided exact p-values that the weaker attack breaks no more images than the stronger.

    McNemar's test: of the images that exactly one of the two breaks, at most half should be the
    weaker one's.
    """
    discordant = weaker_only + stronger_only
    p: NDArray[np.float64] = np.where(
        weaker_only > 0, bdtrc(weaker_only - 1, np.maximum(discordant, 1), 0.5), 1.0
    )
    return p


def _near_chance(outcomes: Outcomes) -> Sequence[str]:
    accuracy = float(outcomes.of("clean")["correct"].mean())
    chance = 1 / len(outcomes.class_names)
    if accuracy >= min(_NEAR_CHANCE * chance, (1 + chance) / 2):
        return []
    return [
        f"clean accuracy is {accuracy:.1%} with {len(outcomes.class_names)} classes, near chance: "
        "the normalisation, the architecture or the order of classes is probably wrong. See what "
        "ferd-eval inspect says, and try --normalize."
    ]


def _masking(outcomes: Outcomes) -> Sequence[str]:
    both = _paired(outcomes, "fgsm", "pgd")
    fgsm_only = ~both["correct_fgsm"] & both["correct_pgd"]
    pgd_only = both["correct_fgsm"] & ~both["correct_pgd"]
    p = float(excess_p(np.array([fgsm_only.sum()]), np.array([pgd_only.sum()]))[0])
    if p < _LEVEL:
        return [
            f"one-step FGSM breaks {int(fgsm_only.sum())} images that PGD does not, and "
            f"PGD only {int(pgd_only.sum())} that FGSM does not (p = {p:.1g}): gradients are "
            "probably masked, and robust accuracy is overstated."
        ]
    classes = len(outcomes.class_names)
    by_class = [
        np.bincount(both["label"], weights=mask, minlength=classes).astype(np.int64)
        for mask in (fgsm_only, pgd_only)
    ]
    masked = np.flatnonzero(excess_p(*by_class) < _LEVEL / classes)
    if len(masked) == 0:
        return []
    names = ", ".join(outcomes.class_names[k] for k in masked[:5])
    return [
        f"FGSM breaks more images than PGD in {len(masked)} classes ({names}): gradients are "
        "probably masked there, and the comparison of classes is not fair to them."
    ]


def _gap(outcomes: Outcomes) -> Sequence[str]:
    both = _paired(outcomes, "pgd", "aa")
    by_class = both.groupby("label")[["correct_pgd", "correct_aa"]].mean()
    present_K = by_class.index.to_numpy()
    pgd_K, aa_K = by_class["correct_pgd"].to_numpy(), by_class["correct_aa"].to_numpy()
    gap_K = pgd_K - aa_K
    gap = float(both["correct_pgd"].mean() - both["correct_aa"].mean())
    flags = []
    if gap > _WIDE_GAP or gap_K.max() > 2 * _WIDE_GAP:
        largest = outcomes.class_names[present_K[gap_K.argmax()]]
        flags.append(
            f"AutoAttack lies {100 * gap:.1f} points below PGD on average and "
            f"{100 * gap_K.max():.1f} in class {largest}: PGD alone is too weak here."
        )
    lowest = [set(present_K[each == each.min()]) for each in (pgd_K, aa_K)]
    if not lowest[0] & lowest[1]:
        pgd_worst, aa_worst = (outcomes.class_names[min(tied)] for tied in lowest)
        flags.append(f"the lowest class is {pgd_worst} under PGD and {aa_worst} under AutoAttack.")
    return flags


def _square(outcomes: Outcomes) -> Sequence[str]:
    broken = int((outcomes.of("aa")["stage"] == "square").sum())
    if broken == 0:
        return []
    return [
        f"black-box Square broke {broken} images that all gradient attacks had left: gradients "
        "may be masked."
    ]


def _paired(outcomes: Outcomes, first: str, second: str) -> pd.DataFrame:
    columns = ["index", "label", "correct"]
    return outcomes.of(first)[columns].merge(
        outcomes.of(second)[["index", "correct"]], on="index", suffixes=("_" + first, "_" + second)
    )
