"""What stands before the stages of a network with a 3×3 stem, and has no keys of its own.

Legend: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from ferd_eval.models.architectures.base import Architecture

#: What `Stem.suffix` writes, as a part of the pattern of a name: two groups.
STEM_SUFFIX = r"(-stride-?2)?(-max-?pool)?"


@dataclass(frozen=True)
class Stem:
    """A 3×3 convolution and what follows it; files for small images have the plain one.

    torchvision's ResNets with only the convolution exchanged keep the max-pool
    (huyvnphan/PyTorch_CIFAR10, songweige/shift-invariance-adv-robustness); networks for 64×64
    images often have a stride.

    Attributes:
        stride: of the convolution.
        max_pool: whether a 3×3 max-pool of stride 2 follows batch normalisation and ReLU.
    """

    stride: int = 1
    max_pool: bool = False

    @property
    def suffix(self) -> str:
        """What the stem adds to the name of an architecture."""
        return "-stride2" * (self.stride == 2) + "-maxpool" * self.max_pool

    @classmethod
    def named(cls, stride2: str | None, max_pool: str | None) -> Self:
        """Read the two groups of `STEM_SUFFIX`."""
        return cls(stride=1 if stride2 is None else 2, max_pool=max_pool is not None)

    def convolution(self, in_channels: int, width: int) -> nn.Conv2d:
        """Return the first layer: B×C×H×W to B×(width)×H/stride×W/stride."""
        return nn.Conv2d(in_channels, width, 3, self.stride, padding=1, bias=False)

    def pool(self) -> nn.Module:
        """Return what precedes the first stage."""
        return nn.MaxPool2d(3, 2, padding=1) if self.max_pool else nn.Identity()


#: All of them, the likeliest first.
STEMS = (Stem(), Stem(max_pool=True), Stem(stride=2), Stem(stride=2, max_pool=True))


@dataclass(frozen=True, kw_only=True)
class StemmedArchitecture(Architecture, ABC):
    """A network with a 3×3 stem, of which no key tells stride and max-pool.

    Attributes:
        stem: what is not in the keys; detection takes the plain one.
    """

    stem: Stem = STEMS[0]

    @property
    def twins(self) -> tuple[Self, ...]:
        """The same with the other stems."""
        return tuple(replace(self, stem=stem) for stem in STEMS if stem != self.stem)
