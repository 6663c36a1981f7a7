"""What is left to do in a run, in passes, as far as it is known. A backward pass counts as two."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ferd_eval.attacks import Cascade, PlannedAttack


class Remaining:
    """Counts down. How many survive to a stage is a guess until it begins: as many as survived the
    hardest attack so far in a ball no larger.

    Args:
        plan: of the run.
        images: that it sees.
        num_classes: K.
        weight: what a pass costs, beside those of the runs it is counted with.
        beside: runs that go on at the same time; this one joins them.
    """

    def __init__(
        self,
        plan: Sequence[PlannedAttack],
        images: int,
        num_classes: int,
        weight: float = 1.0,
        beside: list[Remaining] | None = None,
    ) -> None:
        self._plan, self._weight = tuple(plan), weight
        self._all = [] if beside is None else beside
        self._all.append(self)
        self._images = images
        self._classes = num_classes
        self._standing: dict[Fraction, float] = {}
        self._open = [(planned, stage) for planned in plan for stage in range(len(planned.attacks))]
        self._left = {
            (planned.id, stage): self._expected(planned, stage) for planned, stage in self._open
        }

    def begin(self, planned: PlannedAttack, stage: int, images: int) -> None:
        """A stage, by its place among the attacks of `planned`, begins with so many images."""
        self._open.remove((planned, stage))
        self._left[planned.id, stage] = images * self._cost(planned, stage)

    def spend(self, planned: PlannedAttack, stage: int, images: int) -> tuple[float, float]:
        """So many images are through: what they cost, and what is left of all runs."""
        cost = images * self._cost(planned, stage)
        self._left[planned.id, stage] -= cost
        return cost, sum(sum(each._left.values()) for each in self._all)

    def learn(self, planned: PlannedAttack, share: float) -> None:
        """An attack is over, and left this share of the images standing."""
        for other in self._plan:
            if other.threat.eps >= planned.threat.eps or planned.id == "clean":
                before = self._standing.get(other.threat.eps, 1.0)
                self._standing[other.threat.eps] = min(before, share)
        for other, stage in self._open:
            self._left[other.id, stage] = self._expected(other, stage)

    def _expected(self, planned: PlannedAttack, stage: int) -> float:
        images = float(self._images)
        if isinstance(planned.attack, Cascade) and stage > 0:  # the first one sees everyone
            images *= self._standing.get(planned.threat.eps, 1.0)
            if planned.attack.is_audit(stage):
                images = min(images, planned.attack.sample)
        return images * self._cost(planned, stage)

    def _cost(self, planned: PlannedAttack, stage: int) -> float:
        forward, backward = planned.attacks[stage].passes_per_image(self._classes)
        return self._weight * (forward + 2.0 * backward)
