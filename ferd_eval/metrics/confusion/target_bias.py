"""Do attacks succeed more toward some classes than toward others?

The image is the unit. Attempts on one image, each at another class, succeed and fail together, so
classes are compared within images and what varies is what one image adds to an estimate, within its
true class (whose numbers of images are fixed). Tests of exchangeable targets, Cochran's Q among
them, are not used: a cat is always led to a dog more easily than to a ship, and the question is
whether a class is reached more easily on average over all images aimed at it.

Limits hold for all classes at once (Bonferroni). They are ±√(z²·V + z⁴·b²/2), with V the estimated
variance and b the most that a single image moves the estimate. Without the second term, which is
that of the interval of Agresti & Coull (1998) near 0, rare successes would pass for sure ones. The
p-value is the level at which the first of the limits excludes 0, so that a class is named exactly
when it is below 5 %. Level and coverage by simulation:
``tests/eval/metrics/confusion/test_target_bias.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from ferd_eval.metrics.confusion.matrix import confusion_matrix, error_pattern
from ferd_eval.metrics.dispersion import shares
from ferd_eval.metrics.intervals import wilson
from ferd_eval.metrics.per_class import by_class

#: Level of all limits together, and of the test.
_LEVEL = 0.05


@dataclass(frozen=True)
class TargetExcess:
    """How easily one class is reached by an attack that aims at it."""

    index: int
    name: str
    n: int  #: images aimed at it (and at another class too)
    success: float | None  #: the share of them that reached it
    success95: tuple[float, float] | None  #: Wilson; attempts at one class are on different images
    #: `success` − how often the same images reached the other classes they were aimed at.
    excess: float | None
    excess95: tuple[float, float] | None  #: interval of `excess`, for all classes at once
    #: Share of the same images taken for it without an attack; None if unknown.
    clean_rate: float | None
    #: Its share of all errors without an attack; None if unknown or without errors.
    clean_share: float | None


@dataclass(frozen=True)
class TargetEffect:
    """Whether a targeted attack succeeds more toward some classes."""

    images: int  #: images aimed at two classes or more; others cannot tell and are left out
    most_targets: int  #: classes that an image was aimed at, at most
    #: Of "no class is reached more or less often than the others that the same images were aimed
    #: at".
    p: float
    easier: tuple[int, ...]  #: classes whose interval of the excess is above, or below, 0
    harder: tuple[int, ...]
    per_target: tuple[TargetExcess, ...]


@dataclass(frozen=True)
class ShareChange:
    """One class's share of all errors under an attack, and without one on the same images."""

    index: int
    name: str
    errors: int
    share: float
    clean_errors: int
    clean_share: float
    change: float  #: `share` − `clean_share`
    change95: tuple[float, float]  #: its interval, for all classes at once


@dataclass(frozen=True)
class ErrorShift:
    """Whether errors under an untargeted attack end in other classes than clean errors do."""

    errors: int
    clean_errors: int
    #: Half the sum of the absolute changes: the share of the errors that would have to move. Chance
    #: alone makes it positive.
    total_variation: float
    p: float  #: of "every class has the same share of both"
    more: tuple[int, ...]  #: classes whose interval of the change is above, or below, 0
    fewer: tuple[int, ...]
    per_target: tuple[ShareChange, ...]


def toward(rows: pd.DataFrame, names: Sequence[str]) -> TargetEffect | ErrorShift | None:
    """Answer for the rows of one attack, which either all have a target or have none.

    Returns:
        None where there is nothing to compare: no image aimed at two classes; of an untargeted
        attack no errors, unknown clean predictions, or the very same predictions.
    """
    # Sums are rounded in the order of their terms: the same for any order of the rows.
    rows = rows.sort_values(["index", "target"])
    labels_N, clean_N = rows["label"].to_numpy(), rows["clean_pred"].to_numpy()
    predictions_N = rows["adv_pred"].to_numpy()
    if rows["target"].notna().any():
        return target_effect(
            rows["index"].to_numpy(),
            labels_N,
            rows["target"].to_numpy(dtype=np.int64),
            predictions_N,
            names,
            clean_N,
        )
    if (clean_N < 0).any() or (clean_N == predictions_N).all():
        return None
    return error_shift(labels_N, predictions_N, clean_N, names)


def target_effect(
    images_A: ArrayLike,
    labels_A: ArrayLike,
    targets_A: ArrayLike,
    predictions_A: ArrayLike,
    names: Sequence[str],
    clean_A: ArrayLike | None = None,
) -> TargetEffect | None:
    """Compare the classes aimed at, by A attempts, each on the image that `images_A` tells.

    An image is aimed at a class at most once. `clean_A` are the predictions without an attack,
    negative where unknown.
    """
    _, first_N, image_A, aims_N = np.unique(
        np.asarray(images_A), return_index=True, return_inverse=True, return_counts=True
    )
    compared_A = aims_N[image_A] > 1
    if not compared_A.any():
        return None
    K = len(names)
    targets_A = np.asarray(targets_A)
    reached_A = np.asarray(predictions_A) == targets_A
    elsewhere_A = np.bincount(image_A, reached_A)[image_A] - reached_A
    image, target, reached = image_A[compared_A], targets_A[compared_A], reached_A[compared_A]
    difference = reached - elsewhere_A[compared_A] / (aims_N[image] - 1)
    n_K = np.bincount(target, minlength=K)
    some_K = np.maximum(n_K, 1)
    excess_K = np.bincount(target, difference, K) / some_K
    label_N = np.asarray(labels_A)[first_N]
    residual = difference - excess_K[target]
    cell = label_N[image] * K + target
    variance_K = _variance(
        _sums(cell, residual, K),
        _sums(cell, residual**2, K),
        np.bincount(label_N[aims_N > 1], minlength=K),
    )
    limits = _limits(excess_K, variance_K / some_K**2, 1 / some_K, tested=n_K > 0)
    hits_K = np.bincount(target, reached, K).astype(np.int64)
    clean_rate_K = clean_share_K = np.full(K, np.nan)
    if clean_A is not None and (np.asarray(clean_A) >= 0).all():
        clean = np.asarray(clean_A)
        already_K = np.bincount(target, clean[compared_A] == target, K)
        clean_rate_K = np.where(n_K > 0, already_K / some_K, np.nan)
        clean_KK = confusion_matrix(label_N, clean[first_N], K)
        by_target = error_pattern(clean_KK, names).targets
        clean_share_K = np.array([each.share for each in by_target], dtype=np.float64)
    return TargetEffect(
        images=int((aims_N > 1).sum()),
        most_targets=int(aims_N.max()),
        p=limits.p,
        easier=limits.above,
        harder=limits.below,
        per_target=by_class(
            TargetExcess,
            names,
            n=n_K,
            success=shares(hits_K, n_K),
            success95=wilson(hits_K, n_K),
            excess=np.where(n_K > 0, excess_K, np.nan),
            excess95=(np.where(n_K > 0, limits.low, np.nan), limits.high),
            clean_rate=clean_rate_K,
            clean_share=clean_share_K,
        ),
    )


def error_shift(
    labels_N: ArrayLike, attacked_N: ArrayLike, clean_N: ArrayLike, names: Sequence[str]
) -> ErrorShift | None:
    """Compare where errors end under an attack and without one, image by image.

    Both shares are ratios of counts over the same images; their difference is linearised (delta
    method), which keeps what the two have in common out of its variance.
    """
    labels, attacked, clean = (np.asarray(each) for each in (labels_N, attacked_N, clean_N))
    K = len(names)
    wrong_N, clean_wrong_N = attacked != labels, clean != labels
    errors, clean_errors = int(wrong_N.sum()), int(clean_wrong_N.sum())
    if not errors or not clean_errors:
        return None
    count_K = np.bincount(attacked[wrong_N], minlength=K)
    clean_count_K = np.bincount(clean[clean_wrong_N], minlength=K)
    share_K, clean_share_K = count_K / errors, clean_count_K / clean_errors
    change_K = share_K - clean_share_K
    n_K = np.bincount(labels, minlength=K)
    sum_KK, square_KK = np.zeros((K, K)), np.zeros((K, K))
    for k in range(K):
        # What each image adds to the change of class k.
        part_N = wrong_N * ((attacked == k) - share_K[k]) / errors
        part_N = part_N - clean_wrong_N * ((clean == k) - clean_share_K[k]) / clean_errors
        sum_KK[:, k] = np.bincount(labels, part_N, K)
        square_KK[:, k] = np.bincount(labels, part_N**2, K)
    limits = _limits(
        change_K,
        _variance(sum_KK, square_KK, n_K),
        np.full(K, 1 / min(errors, clean_errors)),
        tested=np.ones(K, dtype=bool),
    )
    return ErrorShift(
        errors=errors,
        clean_errors=clean_errors,
        total_variation=float(np.abs(change_K).sum() / 2),
        p=limits.p,
        more=limits.above,
        fewer=limits.below,
        per_target=by_class(
            ShareChange,
            names,
            errors=count_K,
            share=share_K,
            clean_errors=clean_count_K,
            clean_share=clean_share_K,
            change=change_K,
            change95=(limits.low, limits.high),
        ),
    )


@dataclass(frozen=True, eq=False)
class _Limits:
    """Simultaneous limits of K differences, and the p-value that belongs to them."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: float
    above: tuple[int, ...]
    below: tuple[int, ...]


def _sums(
    cell_A: NDArray[np.int64], values_A: NDArray[np.float64], num_classes: int
) -> NDArray[np.float64]:
    """Totals by true class and class aimed at, K × K."""
    sums = np.bincount(cell_A, values_A, num_classes**2)
    return np.asarray(sums, dtype=np.float64).reshape(num_classes, num_classes)


def _variance(
    sum_SK: NDArray[np.float64], square_SK: NDArray[np.float64], n_S: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Variance of K totals over images, of which n are drawn from each of S true classes.

    `sum_SK` and `square_SK` are sums over the images of a true class of what they add, and of its
    square. A true class with a single image has no variance to estimate and enters with its square.
    """
    n_S1 = n_S[:, None]
    within_SK = square_SK - sum_SK**2 / np.maximum(n_S1, 1)
    single_SK = n_S1 / np.maximum(n_S1 - 1, 1) * np.maximum(within_SK, 0.0)
    total_K: NDArray[np.float64] = np.where(n_S1 > 1, single_SK, square_SK).sum(axis=0)
    return total_K


def _limits(
    estimate_K: NDArray[np.float64],
    variance_K: NDArray[np.float64],
    jump_K: NDArray[np.float64],
    tested: NDArray[np.bool_],
) -> _Limits:
    """Limits of all tested differences at once, cut to [−1, 1]."""
    tests = max(int(tested.sum()), 1)
    z = float(-ndtri(_LEVEL / 2 / tests))
    half_K = np.sqrt(z**2 * variance_K + z**4 * jump_K**2 / 2)
    # The z whose limits end at 0: a quadratic equation in z².
    b2_K = jump_K**2
    z2_K = (np.sqrt(variance_K**2 + 2 * b2_K * estimate_K**2) - variance_K) / b2_K
    p_K = np.where(tested, 2 * ndtr(-np.sqrt(z2_K)), 1.0)
    clear_K = tested & (np.abs(estimate_K) > half_K)
    return _Limits(
        low=np.maximum(estimate_K - half_K, -1.0),
        high=np.minimum(estimate_K + half_K, 1.0),
        p=float(min(1.0, tests * p_K.min())),
        above=tuple(np.flatnonzero(clear_K & (estimate_K > 0)).tolist()),
        below=tuple(np.flatnonzero(clear_K & (estimate_K < 0)).tolist()),
    )
