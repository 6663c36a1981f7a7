"""Work left in a run, and a forecast of its time: images that fall early cost little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from ferd_eval.attacks import PRESETS, Attack, Cascade, PlannedAttack, SearchAttack, plan_attacks
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.cost.model import TIMED_IMAGES, seconds_per_image
from ferd_eval.evaluation.model_checks import as_images
from ferd_eval.models import Classifier
from ferd_eval.runtime.device import is_out_of_memory
from ferd_eval.runtime.progress import duration

#: Cost to a search of an image that falls, relative to one that withstands it: most fall in the
#: first steps. An assumption of the forecast only.
_FALLEN = 0.15

#: Attacks of fewer passes take longer than these say, because of reading and writing: they give no
#: rate where there are others.
_FEWEST_PASSES = 10

#: An attack of fewer steps says little of how many images survive the hardest one.
_FEWEST_STEPS = 10


@dataclass
class _Stage:
    """One attack: images it sees, those done, and of these the survivors."""

    attack: Attack
    cost: float
    is_long: bool
    images: int | None = None
    done: int = 0
    standing: int = 0


class Remaining:
    """Counts down the work of a run, and estimates it anew with each finished shard.

    How many images reach a stage is a guess until it begins: as many as survived the hardest attack
    so far in a ball no larger.

    Args:
        plan: of the run.
        images: that it sees.
        num_classes: K.
        seconds: attack's repr → seconds for an image that withstands it; None counts passes, a
            backward pass as two.
        beside: runs that go on at the same time; this one joins them.
    """

    def __init__(
        self,
        plan: Sequence[PlannedAttack],
        images: int,
        num_classes: int,
        seconds: Mapping[str, float] | None = None,
        beside: list[Remaining] | None = None,
    ) -> None:
        self._plan, self._images = tuple(plan), images
        self._all = [] if beside is None else beside
        self._all.append(self)
        self._guess: tuple[Fraction, float] | None = None

        def passes(attack: Attack) -> float:
            forward, backward = attack.passes_per_image(num_classes)
            return forward + 2.0 * backward

        self._stages = {
            planned.id: [
                _Stage(
                    attack,
                    passes(attack) if seconds is None else seconds[repr(attack)],
                    passes(attack) >= _FEWEST_PASSES,
                )
                for attack in planned.attacks
            ]
            for planned in plan
        }
        self._is_long = any(stage.is_long for each in self._stages.values() for stage in each)

    def guess(self, eps: Fraction, standing: float) -> None:
        """On a few images, this share survived in a ball of this radius."""
        self._guess = eps, standing

    def begin(self, planned: PlannedAttack, stage: int, images: int) -> None:
        """A stage, by its place in `planned.attacks`, begins with so many images."""
        self._stages[planned.id][stage].images = images

    def spend(
        self, planned: PlannedAttack, stage: int, images: int, standing: int
    ) -> tuple[float, float]:
        """Note finished images and survivors; return their cost (0 if it gives no rate) and the
        work left."""
        this = self._stages[planned.id][stage]
        this.done += images
        this.standing += standing
        cost = self._cost(planned, this, images, standing / max(images, 1))
        tells = this.is_long or not self._is_long
        return cost if tells else 0.0, sum(each.left() for each in self._all)

    def left(self) -> float:
        """Work left in this run alone."""
        return sum(self._left(planned) for planned in self._plan)

    def _left(self, planned: PlannedAttack) -> float:
        total, entering = 0.0, float(self._images)
        hardest = self._hardest(planned.threat.eps) * self._images
        for number, stage in enumerate(self._stages[planned.id]):
            if stage.images is not None:
                entering = stage.images
            elif isinstance(planned.attack, Cascade) and planned.attack.is_audit(number):
                entering = min(entering, planned.attack.sample)
            if stage.done:
                stand = stage.standing / stage.done
            elif number == 0 and isinstance(planned.attack, Cascade):
                stand = self._clean()
            else:
                stand = min(hardest / entering, 1.0) if entering else 0.0
            total += self._cost(planned, stage, entering - stage.done, stand)
            if isinstance(planned.attack, Cascade):
                entering *= stand
        return total

    @staticmethod
    def _cost(planned: PlannedAttack, stage: _Stage, images: float, stand: float) -> float:
        sooner = isinstance(planned.attack, Cascade) and isinstance(stage.attack, SearchAttack)
        share = stand + _FALLEN * (1.0 - stand) if sooner else 1.0
        return images * stage.cost * share

    def _clean(self) -> float:
        """Share of all images that are right without attack."""
        firsts = [
            stages[0] for id_, stages in self._stages.items() if id_ == "clean" or len(stages) > 1
        ]
        return min((each.standing / each.done for each in firsts if each.done), default=1.0)

    def _hardest(self, eps: Fraction) -> float:
        """Share of all images that survived the hardest attack so far in a ball no larger."""
        shares, is_telling = [self._clean()], False
        for planned in self._plan:
            if planned.threat.eps > eps:
                continue
            share = 1.0
            for stage in self._stages[planned.id]:
                if not stage.done:
                    break
                share *= stage.standing / stage.done
                is_telling |= stage.attack.steps >= _FEWEST_STEPS
            shares.append(share)
        if self._guess is not None and self._guess[0] <= eps and not is_telling:
            shares.append(self._guess[1])
        return min(shares)


#: Runs shorter than this many seconds need no announcement.
_WORTH_SAYING = 60.0

#: Fewer images per class leave intervals too wide to be worth the hint.
_HINTED_PER_CLASS = 100


@dataclass(frozen=True)
class Forecast:
    """Cost of a plan, from a few steps of each attack."""

    data: LabelledImages
    plan: Sequence[PlannedAttack]
    #: Options that ask for less, each with its plan.
    ways: Sequence[tuple[str, Sequence[PlannedAttack]]]
    seconds: Sequence[Mapping[str, float]]  #: of each network, by attack's repr, an image

    @property
    def is_worth_saying(self) -> bool:
        """Whether the run may take longer than a minute."""
        return self._seconds(self.plan) >= _WORTH_SAYING

    @property
    def longest_by_attack(self) -> dict[str, float]:
        """Attack → seconds at most, over all networks."""
        return {planned.id: self._seconds([planned]) for planned in self.plan}

    @property
    def sentence(self) -> str:
        said = [f"{how} ({self._about(quicker)})" for how, quicker in self.ways]
        share = _HINTED_PER_CLASS * self.data.num_classes / len(self.data)
        if share < 0.75:
            said.append(f"--per-class {_HINTED_PER_CLASS} ({self._about(self.plan, share)})")
        shortest = duration(self._seconds(self.plan, standing=0.0))
        sooner = f", {shortest} if no image withstands" if _has_cascade(self.plan) else ""
        quicker = f" Quicker: {', '.join(said)}." if said else ""
        return f"This will take {self._about(self.plan)} here{sooner}.{quicker}"

    def _about(self, plan: Sequence[PlannedAttack], share: float = 1.0) -> str:
        longest = duration(self._seconds(plan, share))
        return f"about {longest}{' at most' if _has_cascade(plan) else ''}"

    def _seconds(
        self, plan: Sequence[PlannedAttack], share: float = 1.0, standing: float = 1.0
    ) -> float:
        """For a share of the images, a share of which withstands every attack."""
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
