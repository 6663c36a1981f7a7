"""How long a run will take at most, and what to type for a quicker answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ferd_eval.acceptance import as_images
from ferd_eval.attacks import PRESETS, Cascade, PlannedAttack, plan_attacks
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import is_out_of_memory
from ferd_eval.effort import TIMED_IMAGES, seconds_at_most, seconds_per_image
from ferd_eval.models import Classifier
from ferd_eval.progress import duration

#: Runs shorter than this many seconds need no announcement.
_WORTH_SAYING = 60.0

#: Fewer images per class leave intervals too wide to be worth the hint.
_HINTED_PER_CLASS = 100


def forecast(
    classifiers: Sequence[Classifier],
    data: LabelledImages,
    plan: Sequence[PlannedAttack],
    device: torch.device,
    batch_size: int | None = None,
) -> str | None:
    """The announcement; None for a run of less than a minute, or where memory is too short to tell.

    It is made from a few steps of each attack, for images that survive everything.
    """
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

    def at_most(plan: Sequence[PlannedAttack], share: float = 1.0) -> float:
        images = round(share * len(data))
        return sum(seconds_at_most(plan, images, of_one) for of_one in seconds)

    longest = at_most(plan)
    if longest < _WORTH_SAYING:
        return None
    said = [f"{how} ({_about(at_most(quicker), quicker)})" for how, quicker in ways]
    share = _HINTED_PER_CLASS * data.num_classes / len(data)
    if share < 0.75:
        some = at_most(plan, share)
        said.append(f"--per-class {_HINTED_PER_CLASS} ({_about(some, plan)})")
    return f"This will take {_about(longest, plan)} here." + (
        f" Quicker: {', '.join(said)}." if said else ""
    )


def _about(seconds: float, plan: Sequence[PlannedAttack]) -> str:
    """Cascades are done sooner the more images fall."""
    sooner = any(isinstance(planned.attack, Cascade) for planned in plan)
    return f"about {duration(seconds)}{' at most' if sooner else ''}"


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
