"""Constants that a network subtracts and divides by before its first layer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ferd_eval.errors import UserError, did_you_mean

#: Constants that only pixels of 0 to 255 have: means, and deviations of images or no scaling.
_BYTE_MEANS, _BYTE_STDS = (1.0, 255.0), (10.0, 255.0)


@dataclass(frozen=True)
class Normalization:
    """(x − mean) / std per channel, for images in [0, 1]."""

    mean: tuple[float, ...]  #: C values
    std: tuple[float, ...]  #: C values, all above 0

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise UserError(
                f"normalisation has {len(self.mean)} means and {len(self.std)} standard "
                "deviations; give one of each per channel."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise UserError(
                f"normalisation {self} is impossible: standard deviations must be above 0."
            )

    def __str__(self) -> str:
        return "/".join(",".join(f"{v:g}" for v in values) for values in (self.mean, self.std))

    def for_unit_pixels(self) -> Self:
        """The same for images in [0, 1], where the constants are those of 0 to 255.

        (255 x - m) / s is (x - m/255) / (s/255). A standard deviation of 1 divides by nothing, a
        mean of 0 subtracts nothing, in either unit.

        Raises:
            UserError: the constants are of neither unit.
        """
        if all(abs(m) <= 1 for m in self.mean) and max(self.std) <= 1:
            return self
        low, high = _BYTE_MEANS
        means = all(m == 0 for m in self.mean) or all(low < m <= high for m in self.mean)
        stds = all(s == 1 for s in self.std) or _within(self.std, _BYTE_STDS)
        if not (means and stds):
            raise UserError(
                f"normalisation {self} fits neither pixels of 0 to 1 nor of 0 to 255; give means "
                "and standard deviations for pixels of 0 to 1 with --normalize."
            )
        return type(self)(tuple(m / 255 for m in self.mean), tuple(s / 255 for s in self.std))

    def to_json(self) -> dict[str, list[float]]:
        """Return ``{"mean": [...], "std": [...]}``."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what `save_network` writes: JSON as `to_json` gives it, or ``none``.

        Raises:
            UserError: it is neither.
        """
        if text == "none":
            return None
        try:
            content = json.loads(text)
            mean, std = (tuple(float(v) for v in content[key]) for key in ("mean", "std"))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise UserError(
                f"the checkpoint's ferd.normalization is {text[:60]!r}, neither none nor JSON "
                "with mean and std; name the normalisation with --normalize."
            ) from None
        return cls(mean, std)


def _within(values: Sequence[float], limits: tuple[float, float]) -> bool:
    return all(limits[0] <= value <= limits[1] for value in values)


#: Means and standard deviations in common use, by the name ``--normalize`` takes.
NORMALIZATIONS = {
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def parse_normalization(text: str) -> Normalization | None:
    """Read ``none``, a name of `NORMALIZATIONS`, or ``M,M,M/S,S,S``.

    Raises:
        UserError: it is none of these.
    """
    if text == "none":
        return None
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    if "/" not in text and "," not in text:
        raise UserError(
            f"--normalize {text} is not known; give auto, none, a name or M,M,M/S,S,S."
            + did_you_mean(text, ("auto", "none", *NORMALIZATIONS))
        )
    try:
        mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
    except ValueError:
        raise UserError(
            f"--normalize {text} cannot be read; write means, a slash and standard deviations, "
            "one per channel, e.g. 0.49,0.48,0.45/0.25,0.24,0.26."
        ) from None
    return Normalization(mean, std)
