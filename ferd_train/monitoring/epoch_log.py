"""Figures of one epoch of a student's training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StudentLog:
    """Figures of one epoch.

    Attributes:
        epoch: counted from 1.
        lr: the student's learning rate.
        generator_loss: L_gen of the kept batch; None where nothing was made, as of the next three.
        generator_terms: its unweighted terms; none then.
        kept_step: the generator step it came from, counted from 1.
        teacher_agrees: share of the kept images in which the teacher sees the class asked for.
        class_weights: probabilities that this epoch's classes were drawn with.
        class_counts: images made, by the class asked for.
        seen_counts: the same by the class that the teacher sees.
        teacher_loss: the teacher's mean cross-entropy to the class asked for, on the new images of
            each; None of classes without any.
        vulnerability: of each class afterwards, from which the next weights follow.
        loss_per_class: state of the student's loss for each class in the next epoch (weights,
            temperatures), by name; empty for losses that treat all classes alike.
        student_loss: mean of L_stu over the epoch's steps; None in the warm-up.
        student_agrees: share of the last step's clean images in which the student, in evaluation
            mode, sees what the teacher does.
        held_out: figures on synthetic images that are never trained on (`HeldOutFigures`), and
            ``best_epoch``, the best so far, where anything is chosen by them; None in the warm-up
            and without any.
        validation: figures on real images; None without any.
        bank: images in the bank, without those that are held out.
        seconds_making: wall clock of making images and weights.
        seconds_learning: wall clock of the student's steps.
    """

    epoch: int
    lr: float
    generator_loss: float | None
    generator_terms: Mapping[str, float]
    kept_step: int | None
    teacher_agrees: float | None
    class_weights: Sequence[float]
    class_counts: Sequence[int]
    seen_counts: Sequence[int]
    teacher_loss: Sequence[float | None]
    vulnerability: Sequence[float]
    loss_per_class: Mapping[str, Sequence[float]]
    student_loss: float | None
    student_agrees: float | None
    held_out: Mapping[str, float | None] | None
    validation: Mapping[str, float] | None
    bank: int
    seconds_making: float
    seconds_learning: float

    @property
    def seconds(self) -> float:
        """Wall clock of the epoch, without validation and held-out images."""
        return self.seconds_making + self.seconds_learning

    def flat(self, separator: str) -> dict[str, float | None]:
        """Figures on one level, such as ``generator_terms.bn`` and ``class_weights.3``."""
        return dict(_leaves("", vars(self), separator))


def _leaves(name: str, value: Any, separator: str) -> Iterator[tuple[str, float | None]]:
    if not isinstance(value, Mapping | Sequence):
        yield name, value
        return
    for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield from _leaves(f"{name}{separator}{key}" if name else str(key), each, separator)
