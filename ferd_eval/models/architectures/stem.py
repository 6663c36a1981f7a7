"""What stands before the stages of a network with a 3×3 stem, and has no keys of its own.

Legend: B images, C channels, H × W pixels.
"""

from __future__ import annotations

import re
from abc import ABC
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import nn

from ferd_eval.models.architectures.base import Architecture

#: Parts of the pattern of a name: what `Stem.suffix` writes, and another base width.
STEM_SUFFIX = r"(?P<stride2>-stride-?2)?(?P<max_pool>-max-?pool)?"
WIDTH_SUFFIX = r"(?:-w(?P<width>[1-9]\d{0,3}))?"


@dataclass(frozen=True)
class Stem:
    """A 3×3 convolution and the layers behind it; files for small images have the plain one.

    torchvision's ResNets with only the convolution exchanged keep the max-pool
    (huyvnphan/PyTorch_CIFAR10, songweige/shift-invariance-adv-robustness); networks for 64×64
    images often have a stride.
    """

    stride: int = 1  #: of the convolution
    max_pool: bool = False  #: a 3×3 one of stride 2 after batch normalisation and ReLU

    @property
    def suffix(self) -> str:
        """What the stem adds to the name of an architecture."""
        return "-stride2" * (self.stride == 2) + "-maxpool" * self.max_pool

    def convolution(self, in_channels: int, width: int) -> nn.Conv2d:
        """Return the first layer: B×C×H×W to B×(width)×H/stride×W/stride."""
        return nn.Conv2d(in_channels, width, 3, self.stride, padding=1, bias=False)

    def pool(self) -> nn.Module:
        """Build the layers before the first stage."""
        return nn.MaxPool2d(3, 2, padding=1) if self.max_pool else nn.Identity()


#: All of them, the likeliest first.
STEMS = (Stem(), Stem(max_pool=True), Stem(stride=2), Stem(stride=2, max_pool=True))


@dataclass(frozen=True, kw_only=True)
class StemmedArchitecture(Architecture, ABC):
    """A network with a 3×3 stem, of which no key tells stride and max-pool."""

    stem: Stem = STEMS[0]  #: the keys do not tell it; detection takes the plain one

    @property
    def twins(self) -> tuple[Self, ...]:
        """The same with the other stems."""
        return tuple(replace(self, stem=stem) for stem in STEMS if stem != self.stem)

    @classmethod
    def from_name(cls, match: re.Match[str]) -> dict[str, Any] | None:
        fields = super().from_name(match) or {}
        stem = Stem(2 if fields.pop("stride2", False) else 1, fields.pop("max_pool", False))
        return {"stem": stem, **fields}
