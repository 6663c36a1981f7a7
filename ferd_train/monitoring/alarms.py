"""Signs that a data-free run goes wrong, from its figures alone; this project's own rules.

They watch for what was measured where students stayed poor: images of other classes than those
asked for, classes that are missing, masks of everything, and class weights that follow nothing.
K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ferd_train.monitoring.epoch_log import StudentLog

# The bank is judged from this many images a class on; an even draw misses one then once in e^20.
_IMAGES_A_CLASS = 20
# Share of the images with the class asked for, share of the bank that two classes may have, and
# share of the channels that a mask may take.
_AGREEMENT, _OF_TWO, _MASKED = 0.5, 0.5, 0.95
# Epochs that it takes to judge agreement: one in three may be DeepInversion's.
_KINDS = 3
# Rank correlation of weights and losses, and epochs and classes that it takes to judge one: with
# ten classes that have nothing to do with each other its standard deviation is 1/3.
_CORRELATION, _EPOCHS, _CLASSES = 0.3, 10, 5
# Classes that a text names.
_NAMED = 5


@dataclass(frozen=True)
class Alarm:
    """A text for the user, and the epoch after which it was first true."""

    epoch: int
    text: str

    def __str__(self) -> str:
        return f"epoch {self.epoch}: {self.text}"


def alarms(
    logs: Sequence[StudentLog], names: Sequence[str], *, warmup: int, reweights: bool
) -> list[Alarm]:
    """Those that the epochs so far raise, each once, in the order they came.

    More epochs only add to them.

    Args:
        names: of the classes.
        warmup: epochs at the start that teach nothing; images may be of other classes there.
        reweights: whether classes are drawn by weights that are measured.
    """
    raised: dict[str, Alarm] = {}
    seen_K, agrees_E = np.zeros(len(names)), []
    for number, log in enumerate(logs, 1):
        seen_K += log.seen_counts
        if log.teacher_agrees is not None and log.epoch > warmup:
            agrees_E.append(log.teacher_agrees)
        # The first epoch's weights are even.
        last = logs[max(1, number - _EPOCHS) : number] if reweights else []
        texts = {
            "class asked for": _is_not_as_asked(agrees_E),
            "never seen": _is_never_seen(seen_K, names),
            "few classes": _is_of_two(seen_K, names),
            "mask": _masks_all(log),
            "weights": _weighs_at_random(last),
        }
        for rule, text in texts.items():
            if text is not None:
                raised.setdefault(rule, Alarm(log.epoch, text))
    return list(raised.values())


def _is_not_as_asked(agrees_E: Sequence[float]) -> str | None:
    """Over the epochs so far, of which some may have images of another kind."""
    if len(agrees_E) < _KINDS or (agrees := float(np.mean(agrees_E))) >= _AGREEMENT:
        return None
    return (
        f"the teacher sees the class asked for in {agrees:.0%} of the images since the warm-up, "
        "less than half: raise the weight of the class term (synthesis.lambda_oh) or "
        "synthesis.steps."
    )


def _is_never_seen(seen_K: NDArray[np.float64], names: Sequence[str]) -> str | None:
    missing = [name for name, count in zip(names, seen_K, strict=True) if not count]
    if not missing or not _is_enough(seen_K):
        return None
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"the teacher sees {', '.join(missing[:_NAMED])}{more} in none of the {seen_K.sum():.0f} "
        "images so far, so the student is taught nothing of it: raise the weight of the class term "
        "(synthesis.lambda_oh)."
    )


def _is_of_two(seen_K: NDArray[np.float64], names: Sequence[str]) -> str | None:
    second, first = np.argsort(seen_K, kind="stable")[-2:] if len(seen_K) > 4 else (0, 0)
    share = (seen_K[first] + seen_K[second]) / max(seen_K.sum(), 1)
    if first == second or share <= _OF_TWO or not _is_enough(seen_K):
        return None
    return (
        f"the teacher sees {names[first]} or {names[second]} in {share:.0%} of the "
        f"{seen_K.sum():.0f} images so far: the images collapse to few classes. Raise the weight "
        "of the class term (synthesis.lambda_oh), or draw classes evenly "
        "(reweighting.strategy=uniform)."
    )


def _is_enough(seen_K: NDArray[np.float64]) -> bool:
    return bool(seen_K.sum() >= _IMAGES_A_CLASS * len(seen_K))


def _masks_all(log: StudentLog) -> str | None:
    masked = log.generator_terms.get("masked", 0.0)
    if masked <= _MASKED:
        return None
    return (
        f"{masked:.1%} of the channels are masked, so the uniformity term asks for uncertain "
        "images and nothing else: take another mask, or lower synthesis.lambda_uni."
    )


def _weighs_at_random(last: Sequence[StudentLog]) -> str | None:
    """`last`: the epochs whose weights are judged together."""
    if len(last) < _EPOCHS:
        return None
    weight_K = np.mean([log.class_weights for log in last], axis=0)
    count_EK = np.array([log.class_counts for log in last], np.float64)
    loss_EK = np.array([log.teacher_loss for log in last], np.float64)  # None becomes NaN
    count_K = count_EK.sum(axis=0)
    loss_K = np.nansum(count_EK * loss_EK, axis=0) / np.maximum(count_K, 1)
    weight_C, loss_C = weight_K[count_K > 0], loss_K[count_K > 0]
    if len(loss_C) < _CLASSES or not np.ptp(weight_C) or not np.ptp(loss_C):
        return None
    correlation = float(spearmanr(weight_C, loss_C).statistic)
    if correlation >= _CORRELATION:
        return None
    return (
        "class weights do not follow the classes' difficulty: their rank correlation with the "
        f"teacher's clean cross-entropy on the images is {correlation:.2f} over epochs "
        f"{last[0].epoch} to {last[-1].epoch}. Take another reweighting.strategy, or uniform."
    )
