"""Wide ResNets (Zagoruyko & Komodakis 2016, arXiv:1605.07146), in the layout of TRADES.

The layout of yaodongyu/TRADES, RobustBench, RSLAD and the FERD teachers. TRADES builds a
``sub_block1`` that its forward pass never calls; its keys are accepted and reported as unused.
Shapes: B×C×H×W in, B×K out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from ferd_eval.models.architectures.base import ArchitectureRow, Shapes, children_count, shape_of
from ferd_eval.models.architectures.stem import STEM_SUFFIX, Stem, StemmedArchitecture

_STEM = 16


class WideBlock(nn.Module):
    """Pre-activated pair of 3×3 convolutions.

    Where the width changes the shortcut starts at the pre-activated tensor, else at the input.
    """

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, 1, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if in_width != out_width:
            self.convShortcut = nn.Conv2d(in_width, out_width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(out_width)×H/stride×W/stride."""
        active = relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out: Tensor = self.conv2(relu(self.bn2(self.conv1(active))))
        return out + shortcut


class WideStage(nn.Module):
    """Blocks of one width, the first with the stride; exists for its key, ``layer``."""

    def __init__(self, count: int, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            WideBlock(in_width, out_width, stride),
            *(WideBlock(out_width, out_width, 1) for _ in range(count - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(out_width)×H/stride×W/stride."""
        out: Tensor = self.layer(x)
        return out


class WideResNetModule(nn.Module):
    """A 16-channel stem, three stages of n blocks, batch normalisation, pooling, a linear head."""

    def __init__(
        self, depth: int, widen: int, num_classes: int, in_channels: int, stem: Stem
    ) -> None:
        super().__init__()
        n = (depth - 4) // 6
        widths = [_STEM * widen * 2**i for i in range(3)]
        self.conv1 = stem.convolution(in_channels, _STEM)
        self.pool = stem.pool()
        self.block1 = WideStage(n, _STEM, widths[0], 1)
        self.block2 = WideStage(n, widths[0], widths[1], 2)
        self.block3 = WideStage(n, widths[1], widths[2], 2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            # He et al. 2015 with fan-out, as TRADES trains it. Weights without values have nothing
            # to fill, and torch would load its compiler for them.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.pool(self.conv1(x_BCHW)))))
        x = relu(self.bn1(x))
        logits_BK: Tensor = self.fc(adaptive_avg_pool2d(x, 1).flatten(1))
        return logits_BK


@dataclass(frozen=True, kw_only=True)
class WideResNet(StemmedArchitecture):
    """WideResNet-d-k: depth d = 6n + 4, k times as wide as a thin ResNet."""

    depth: int
    widen: int

    pattern = re.compile(
        rf"(?:wide-?resnet|wrn)-?(?P<depth>\d{{1,3}})-(?P<widen>[1-9]\d{{0,2}}){STEM_SUFFIX}"
    )
    head_key = "fc.weight"
    key_aliases = ((re.compile(r"^linear\."), "fc."),)
    unused_keys = re.compile(r"sub_block1\.")
    rows = (
        ArchitectureRow(
            "wideresnet-D-K", "WideResNet", "yaodongyu/TRADES, RobustBench, RSLAD",
            "C×H×W, any size",
            "any depth 6n+4 and width: wideresnet-28-10, -34-10, -34-20, -70-16, …",
        ),
    )  # fmt: skip

    @property
    def name(self) -> str:
        return f"wideresnet-{self.depth}-{self.widen}{self.stem.suffix}"

    def build(self) -> nn.Module:
        sizes = (self.depth, self.widen, self.num_classes, self.in_channels)
        return WideResNetModule(*sizes, self.stem)

    @classmethod
    def from_name(cls, match: re.Match[str]) -> dict[str, Any] | None:
        depth = int(match["depth"])
        return super().from_name(match) if depth >= 10 and depth % 6 == 4 else None

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        first = shape_of(shapes, "block1.layer.0.conv1.weight", 4)
        if first is None or first[0] % _STEM:
            return None
        n = children_count(shapes, "block1.layer")
        return {"depth": 6 * n + 4, "widen": first[0] // _STEM}
