"""How long a run will take at most, and what to type for a quicker answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from ferd_eval.acceptance import as_images
from ferd_eval.attacks import PRESETS, Cascade, PlannedAttack, plan_attacks
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import is_out_of_memory
from ferd_eval.effort import TIMED_IMAGES, seconds_per_image
from ferd_eval.models import Classifier
from ferd_eval.progress import duration
from ferd_eval.remaining import Remaining

#: Runs shorter than this many seconds need no announcement.
_WORTH_SAYING = 60.0

#: Fewer images per class leave intervals too wide to be worth the hint.
_HINTED_PER_CLASS = 100


@dataclass(frozen=True)
class Forecast:
    """What a plan costs, from a few steps of each attack.

    Attributes:
        data: the images of the run.
        plan: what is going to run.
        ways: options that ask for less, each with its plan.
        seconds: for each network, attack as it prints → seconds for an image that withstands it.
    """

    data: LabelledImages
    plan: Sequence[PlannedAttack]
    ways: Sequence[tuple[str, Sequence[PlannedAttack]]]
    seconds: Sequence[Mapping[str, float]]

    @property
    def is_worth_saying(self) -> bool:
        """Whether the run may take longer than a minute."""
        return self._longest(self.plan) >= _WORTH_SAYING

    @property
    def longest_by_attack(self) -> dict[str, float]:
        """Attack → seconds at most, over all networks."""
        return {planned.id: self._longest([planned]) for planned in self.plan}

    @property
    def sentence(self) -> str:
        """How long, and what is quicker."""
        said = [f"{how} ({self._about(quicker)})" for how, quicker in self.ways]
        share = _HINTED_PER_CLASS * self.data.num_classes / len(self.data)
        if share < 0.75:
            said.append(f"--per-class {_HINTED_PER_CLASS} ({self._about(self.plan, share)})")
        shortest = duration(self._in_all(self.plan, 1.0, standing=0.0))
        sooner = f", {shortest} if no image withstands" if _has_cascade(self.plan) else ""
        quicker = f" Quicker: {', '.join(said)}." if said else ""
        return f"This will take {self._about(self.plan)} here{sooner}.{quicker}"

    def _about(self, plan: Sequence[PlannedAttack], share: float = 1.0) -> str:
        """Cascades are done sooner the more images fall."""
        longest = duration(self._longest(plan, share))
        return f"about {longest}{' at most' if _has_cascade(plan) else ''}"

    def _longest(self, plan: Sequence[PlannedAttack], share: float = 1.0) -> float:
        return self._in_all(plan, share, standing=1.0)

    def _in_all(self, plan: Sequence[PlannedAttack], share: float, standing: float) -> float:
        """Seconds for a share of the images, a share of which withstands every attack."""
        total = 0.0
        for of_one in self.seconds:
            run = Remaining(plan, round(share * len(self.data)), self.data.num_classes, of_one)
            run.guess(Fraction(0), standing)
            total += run.left()
        return total


def forecast(
    classifiers: Sequence[Classifier],
    data: LabelledImages,
    plan: Sequence[PlannedAttack],
    device: torch.device,
    batch_size: int | None = None,
) -> Forecast | None:
    """Time a few steps of each attack; None where memory is too short to tell."""
    few = slice(0, min(max(TIMED_IMAGES), batch_size or max(TIMED_IMAGES)))
    labels_B = torch.from_numpy(data.labels_N[few]).to(device)
    ways = _quicker(plan)
    timed = [*plan, *(planned for _, quicker in ways for planned in quicker)]
    try:
        seconds = [
            seconds_per_image(
                classifier, as_images(data.images_NCHW[few], classifier, device), labels_B, timed
            )
            for classifier in classifiers
        ]
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return Forecast(data, plan, ways, seconds)


def _has_cascade(plan: Sequence[PlannedAttack]) -> bool:
    return any(isinstance(planned.attack, Cascade) for planned in plan)


def _quicker(plan: Sequence[PlannedAttack]) -> list[tuple[str, list[PlannedAttack]]]:
    """Options that ask for less, each with its plan; own attacks cannot be named there."""
    names = list(dict.fromkeys(planned.id.partition("@")[0] for planned in plan))
    if "aa" not in names:
        return []
    threats = list(dict.fromkeys(each.threat for each in plan if each.id != "clean"))
    ways = ["fast"]
    if "aa-audited" not in names:
        known = [name for name in names if name in PRESETS]
        ways.append(",".join("aa-audited" if name == "aa" else name for name in known))
    return [(f"--attacks {way}", list(plan_attacks(way, threats))) for way in ways]
