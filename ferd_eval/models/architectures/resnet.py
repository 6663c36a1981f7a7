"""ResNets for small images (He et al. 2016, arXiv:1512.03385), in both public key layouts.

`CifarResNet`: four stages of widths 64 to 512, as in kuangliu/pytorch-cifar and RobustBench.
`ThinResNet`: three stages of widths 16 to 64 and depth 6n + 2, as in the paper's section 4.2 and
akamaster/pytorch_resnet_cifar10. Shapes: B×C×H×W in, B×K out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, pad, relu

from ferd_eval.models.architectures.base import ArchitectureRow, Shapes, children_count
from ferd_eval.models.architectures.stem import STEM_SUFFIX, WIDTH_SUFFIX, Stem, StemmedArchitecture

HEAD_AND_SHORTCUT_ALIASES = (
    (re.compile(r"^(fc|classifier)\.(?=weight|bias)"), "linear."),
    (re.compile(r"\.downsample\."), ".shortcut."),
)

_SOURCES = "kuangliu/pytorch-cifar, RobustBench, RSLAD"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_width: int, width: int, stride: int, *, projection: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_width, width, stride, projection=projection)

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(width)×H/stride×W/stride."""
        out = relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 (which has the stride) and 1×1 convolutions, and a shortcut."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int, *, projection: bool = True) -> None:
        super().__init__()
        out_width = self.expansion * width
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.shortcut = _shortcut(in_width, out_width, stride, projection=projection)

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(4 width)×H/stride×W/stride."""
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return relu(out + self.shortcut(x))


class ZeroPadShortcut(nn.Module):
    """The parameter-free shortcut, option A of the paper: subsample, pad channels with zeros."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_width - in_width) // 2
        self.after = out_width - in_width - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map B×C×H×W to B×(out_width)×H/stride×W/stride."""
        # The same as a slice, but its gradient keeps channels last.
        x = avg_pool2d(x, 1, self.stride)
        return pad(x, (0, 0, 0, 0, self.before, self.after))


def _shortcut(in_width: int, out_width: int, stride: int, *, projection: bool) -> nn.Module:
    if stride == 1 and in_width == out_width:
        return nn.Sequential()
    if not projection:
        return ZeroPadShortcut(in_width, out_width, stride)
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, 1, stride, bias=False), nn.BatchNorm2d(out_width)
    )


def add_stages(
    network: nn.Module,
    block: Callable[[int, int, int], nn.Module],
    depths: tuple[int, ...],
    width: int,
    expansion: int = 1,
) -> tuple[list[str], int]:
    """Add ``layer1``, ``layer2``, … to a network, each of twice the width of the one before.

    The stem and the first stage have the width given; all but the first begin with stride 2. A
    block is made from its input's width, its width and its stride; its output has `expansion` times
    its width. Returns the names of the stages, and the width of the last one's output.
    """
    names, in_width = [f"layer{i + 1}" for i in range(len(depths))], width
    for i, (name, depth) in enumerate(zip(names, depths, strict=True)):
        blocks = []
        for j in range(depth):
            blocks.append(block(in_width, width * 2**i, 2 if i > 0 and j == 0 else 1))
            in_width = width * 2**i * expansion
        network.add_module(name, nn.Sequential(*blocks))
    return names, in_width


class ResNet(nn.Module):
    """A 3×3 stem, stages that halve the image and double the width, a linear head.

    The pooling is global, so any image size works.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, ...],
        width: int,
        num_classes: int,
        in_channels: int,
        stem: Stem,
        *,
        projection: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = stem.convolution(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = stem.pool()
        self.stages, in_width = add_stages(
            self, partial(block, projection=projection), depths, width, block.expansion
        )
        self.linear = nn.Linear(in_width, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = self.pool(relu(self.bn1(self.conv1(x_BCHW))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits_BK: Tensor = self.linear(adaptive_avg_pool2d(x, 1).flatten(1))
        return logits_BK


@dataclass(frozen=True, kw_only=True)
class CifarResNet(StemmedArchitecture):
    """ResNet-18, -34 or -50 with a 3×3 stem; `width` is that of the first stage.

    Files with the ImageNet names ``fc`` and ``downsample`` are read too, if their stem is 3×3.
    """

    depth: int
    width: int = 64

    _BLOCKS: ClassVar[dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
    }
    pattern = re.compile(rf"resnet-?(?P<depth>18|34|50){STEM_SUFFIX}{WIDTH_SUFFIX}")
    key_aliases = HEAD_AND_SHORTCUT_ALIASES
    rows = tuple(
        ArchitectureRow(name, "ResNet", _SOURCES, "C×H×W, any size", notes)
        for name, notes in (
            ("resnet18", "3×3 stem; -maxpool, -stride2 or both for what no key shows; -wN for "
             "another base width, e.g. resnet18-maxpool-w32"),
            ("resnet34", "3×3 stem"),
            ("resnet50", "3×3 stem, bottleneck blocks"),
        )
    )  # fmt: skip

    @property
    def name(self) -> str:
        """``resnet18``, with the stem's suffix and with ``-wN`` if the width is not 64."""
        width = f"-w{self.width}" if self.width != 64 else ""
        return f"resnet{self.depth}{self.stem.suffix}{width}"

    @property
    def summary(self) -> str:
        """Describe the plain stem; the name describes the others."""
        return "" if self.stem.suffix else "stem of stride 1, no max-pool"

    @property
    def public_twins(self) -> tuple[Self, ...]:
        """All: see `Stem`."""
        return self.twins

    def build(self) -> nn.Module:
        block, depths = self._BLOCKS[self.depth]
        return ResNet(block, depths, self.width, self.num_classes, self.in_channels, self.stem)

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        depths = tuple(children_count(shapes, f"layer{i}") for i in (1, 2, 3, 4))
        block = Bottleneck if "layer1.0.conv3.weight" in shapes else BasicBlock
        found = [depth for depth, each in cls._BLOCKS.items() if each == (block, depths)]
        return {"depth": found[0], "width": width} if found else None


@dataclass(frozen=True, kw_only=True)
class ThinResNet(StemmedArchitecture):
    """ResNet of depth 6n + 2 in three stages; `width` is that of the first.

    `projection` is option B of the paper (1×1 convolutions where the shape changes); without it,
    option A (zero padding), which has no keys.
    """

    depth: int
    width: int = 16
    projection: bool = False

    pattern = re.compile(
        rf"resnet-?(?P<depth>\d{{1,4}})(?:-cifar)?(?P<projection>-b)?{STEM_SUFFIX}{WIDTH_SUFFIX}"
    )
    key_aliases = HEAD_AND_SHORTCUT_ALIASES
    rows = tuple(
        ArchitectureRow(
            f"resnet{depth}", "ResNet 6n+2", "akamaster/pytorch_resnet_cifar10", "C×H×W, any size",
            "zero-padded shortcuts; -b for 1×1 convolutions, -wN for another base width"
            if depth == 20 else "",
        )
        for depth in (8, 20, 32, 44, 56, 110)
    )  # fmt: skip

    @property
    def name(self) -> str:
        """``resnet20``, with ``-b`` for option B, the stem's suffix, ``-wN`` if it is not 16."""
        width = f"-w{self.width}" if self.width != 16 else ""
        return f"resnet{self.depth}{'-b' * self.projection}{self.stem.suffix}{width}"

    def build(self) -> nn.Module:
        depths = ((self.depth - 2) // 6,) * 3
        sizes = (self.width, self.num_classes, self.in_channels)
        return ResNet(BasicBlock, depths, *sizes, self.stem, projection=self.projection)

    @classmethod
    def from_name(cls, match: re.Match[str]) -> dict[str, Any] | None:
        return super().from_name(match) if _is_thin_depth(int(match["depth"])) else None

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        n, *others, fourth = (children_count(shapes, f"layer{i}") for i in (1, 2, 3, 4))
        if fourth or others != [n, n] or not _is_thin_depth(6 * n + 2):
            return None
        projection = "layer2.0.shortcut.0.weight" in shapes
        return {"depth": 6 * n + 2, "width": width, "projection": projection}


def _is_thin_depth(depth: int) -> bool:
    # 50 = 6·8 + 2 too, but everybody means the bottleneck network.
    return depth >= 8 and depth % 6 == 2 and depth != 50
