"""Pre-activation ResNets for small images (He et al. 2016, arXiv:1603.05027).

Two forward passes are in public use under the same keys. The usual one (kuangliu/pytorch-cifar,
locuslab/robust_overfitting, FERD's teachers and students, RobustBench's ``PreActBlockV2``) takes
the shortcut from the pre-activated tensor. RobustBench's ``PreActBlock`` takes it from the raw
input, as Wong2020Fast (a network without final batch normalisation) was trained. Shapes: B×C×H×W
in, B×K out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from ferd_eval.models.architectures.base import ArchitectureRow, Shapes, children_count
from ferd_eval.models.architectures.resnet import HEAD_AND_SHORTCUT_ALIASES, add_stages
from ferd_eval.models.architectures.stem import STEM_SUFFIX, WIDTH_SUFFIX, Stem, StemmedArchitecture


class PreActBlock(nn.Module):
    """Batch normalisation and ReLU before each of two 3×3 convolutions, and a shortcut."""

    def __init__(self, in_width: int, width: int, stride: int, *, raw_shortcut: bool) -> None:
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(width)×H/stride×W/stride."""
        active = relu(self.bn1(x))
        shortcut = x
        if self.shortcut is not None:
            shortcut = self.shortcut(x if self.raw_shortcut else active)
        out: Tensor = self.conv2(relu(self.bn2(self.conv1(active))))
        return out + shortcut


class PreActResNetModule(nn.Module):
    """A 3×3 stem, four stages, an optional final batch normalisation, pooling, a linear head."""

    def __init__(
        self,
        depths: tuple[int, ...],
        width: int,
        num_classes: int,
        in_channels: int,
        stem: Stem,
        *,
        raw_shortcut: bool,
        final_bn: bool,
    ) -> None:
        super().__init__()
        self.conv1 = stem.convolution(in_channels, width)
        self.pool = stem.pool()
        block = partial(PreActBlock, raw_shortcut=raw_shortcut)
        self.stages, in_width = add_stages(self, block, depths, width)
        self.bn = nn.BatchNorm2d(in_width) if final_bn else None
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = self.pool(self.conv1(x_BCHW))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        if self.bn is not None:
            x = relu(self.bn(x))
        logits_BK: Tensor = self.linear(adaptive_avg_pool2d(x, 1).flatten(1))
        return logits_BK


@dataclass(frozen=True, kw_only=True)
class PreActResNet(StemmedArchitecture):
    """PreActResNet-18 or -34; `width` is that of the first stage."""

    depth: int
    width: int = 64
    raw_shortcut: bool = False  #: the shortcut starts at the raw input: see the head of this file
    final_bn: bool = True  #: batch normalisation and ReLU before the pooling; read from the keys

    _DEPTHS: ClassVar[dict[int, tuple[int, int, int, int]]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
    pattern = re.compile(
        rf"pre-?act-?resnet-?(?P<depth>18|34)(?P<raw_shortcut>-raw)?{STEM_SUFFIX}{WIDTH_SUFFIX}"
    )
    key_aliases = HEAD_AND_SHORTCUT_ALIASES
    rows = tuple(
        ArchitectureRow(name, "PreActResNet", source, "C×H×W, any size", notes)
        for name, source, notes in (
            ("preactresnet18", "FERD, kuangliu/pytorch-cifar", "final BN or not: read from keys"),
            ("preactresnet34", "FERD, kuangliu/pytorch-cifar", ""),
            ("preactresnet18-raw", "RobustBench PreActBlock (Wong2020Fast)", "raw-input shortcut"),
            ("preactresnet34-raw", "RobustBench PreActBlock", "raw-input shortcut"),
        )
    )

    @property
    def name(self) -> str:
        """``preactresnet18``, with ``-raw``, the stem's suffix, ``-wN`` if it is not 64."""
        width = f"-w{self.width}" if self.width != 64 else ""
        return f"preactresnet{self.depth}{'-raw' * self.raw_shortcut}{self.stem.suffix}{width}"

    @property
    def summary(self) -> str:
        if self.raw_shortcut:
            return "shortcut from the raw input, as in RobustBench's Wong2020Fast"
        return "shortcut from the pre-activated tensor, as in kuangliu/pytorch-cifar"

    @property
    def twins(self) -> tuple[Self, ...]:
        other = replace(self, raw_shortcut=not self.raw_shortcut)
        return (other, *super().twins, *super(PreActResNet, other).twins)

    @property
    def public_twins(self) -> tuple[Self, ...]:
        """The other shortcut, where there is no final batch normalisation.

        With it every public file found is of the usual kind.
        """
        return () if self.final_bn else self.twins[:1]

    def build(self) -> nn.Module:
        return PreActResNetModule(
            self._DEPTHS[self.depth],
            self.width,
            self.num_classes,
            self.in_channels,
            self.stem,
            raw_shortcut=self.raw_shortcut,
            final_bn=self.final_bn,
        )

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        """All but the shortcut, which is taken to be the usual one."""
        depths = tuple(children_count(shapes, f"layer{i}") for i in (1, 2, 3, 4))
        depth = next((depth for depth, each in cls._DEPTHS.items() if each == depths), None)
        if depth is None or "bn1.weight" in shapes:
            return None
        return {"depth": depth, "width": width, "final_bn": "bn.weight" in shapes}
