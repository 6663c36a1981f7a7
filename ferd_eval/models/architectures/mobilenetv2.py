"""MobileNet-V2 for small images (Sandler et al. 2018, arXiv:1801.04381).

The layout and strides of kuangliu/pytorch-cifar and RSLAD: a 3×3 stem of stride 1, a first
24-channel stage of stride 1, ReLU instead of ReLU6, and a shortcut in every block of stride 1, with
a 1×1 convolution where the width changes. Shapes: B×C×H×W in, B×K out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from ferd_eval.models.architectures.base import ArchitectureRow, Shapes, children_count
from ferd_eval.models.architectures.resnet import HEAD_AND_SHORTCUT_ALIASES
from ferd_eval.models.architectures.stem import STEM_SUFFIX, Stem, StemmedArchitecture

# (expansion, width, blocks, stride of the first block): Table 2 of the paper with the strides of
# the CIFAR layout.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter each channel by 3×3, narrow by 1×1."""

    def __init__(self, in_width: int, out_width: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = expansion * in_width
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.shortcut: nn.Sequential | None = None
        if stride == 1:
            self.shortcut = nn.Sequential()
            if in_width != out_width:
                self.shortcut.append(nn.Conv2d(in_width, out_width, 1, bias=False))
                self.shortcut.append(nn.BatchNorm2d(out_width))

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(out_width)×H/stride×W/stride."""
        wide = relu(self.bn1(self.conv1(x)))
        wide = relu(self.bn2(self.conv2(wide)))
        out: Tensor = self.bn3(self.conv3(wide))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return out


class MobileNetV2Module(nn.Module):
    """Stem, 17 inverted residuals, a last 1×1 convolution, global pooling, a linear head."""

    def __init__(self, num_classes: int, in_channels: int, stem: Stem) -> None:
        super().__init__()
        self.conv1 = stem.convolution(in_channels, _STEM)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.pool = stem.pool()
        blocks = []
        in_width = _STEM
        for expansion, width, count, stride in _STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(in_width, width, expansion, 1 if i else stride))
                in_width = width
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(in_width, _LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_LAST)
        self.linear = nn.Linear(_LAST, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = self.pool(relu(self.bn1(self.conv1(x_BCHW))))
        x = self.layers(x)
        x = relu(self.bn2(self.conv2(x)))
        logits_BK: Tensor = self.linear(adaptive_avg_pool2d(x, 1).flatten(1))
        return logits_BK


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(StemmedArchitecture):
    """MobileNet-V2 of width 1 with a CIFAR stem."""

    pattern = re.compile(rf"mobilenet-?v2{STEM_SUFFIX}")
    key_aliases = HEAD_AND_SHORTCUT_ALIASES
    rows = (
        ArchitectureRow(
            "mobilenetv2", "MobileNet-V2", "kuangliu/pytorch-cifar, RSLAD", "C×H×W, any size",
            "3×3 stem of stride 1; -stride2 for ImageNet's, which no key shows",
        ),
    )  # fmt: skip

    @property
    def name(self) -> str:
        return f"mobilenetv2{self.stem.suffix}"

    def build(self) -> nn.Module:
        return MobileNetV2Module(self.num_classes, self.in_channels, self.stem)

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        blocks = sum(count for _, _, count, _ in _STAGES)
        return {} if children_count(shapes, "layers") == blocks else None
