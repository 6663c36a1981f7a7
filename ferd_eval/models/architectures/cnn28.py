"""A small convolutional network for 28×28 images, this project's own.

Three blocks of 3×3 convolution, batch normalisation and ReLU, of widths W, 2W, 4W and strides 1, 2,
2, then one linear layer on the flattened 4W×7×7 features. Shapes: B×C×28×28 in, B×K out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu

from ferd_eval.errors import UserError
from ferd_eval.models.architectures.base import Architecture, ArchitectureRow, Shapes

_SIDE = 28


class Cnn28Module(nn.Module):
    """The network described at the head of this file."""

    def __init__(self, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, 2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.linear = nn.Linear(4 * width * (_SIDE // 4) ** 2, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits B×K; UserError where the images are not 28×28."""
        if x_BCHW.shape[-2:] != (_SIDE, _SIDE):
            height, width = x_BCHW.shape[-2:]
            raise UserError(
                f"cnn28 networks take {_SIDE}×{_SIDE} images, these are {height}×{width}; "
                "use another --dataset, or train another --arch."
            )
        x = relu(self.bn1(self.conv1(x_BCHW)))
        x = relu(self.bn2(self.conv2(x)))
        x = relu(self.bn3(self.conv3(x)))
        logits_BK: Tensor = self.linear(x.flatten(1))
        return logits_BK


@dataclass(frozen=True, kw_only=True)
class Cnn28(Architecture):
    """The network with base width W."""

    width: int

    pattern = re.compile(r"cnn-?28-(?P<width>[1-9]\d{0,3})")
    rows = (
        ArchitectureRow(
            "cnn28-W", "CNN", "this project", "C×28×28",
            "base width W, e.g. cnn28-16, for MNIST and Fashion-MNIST",
        ),
    )  # fmt: skip

    @property
    def name(self) -> str:
        return f"cnn28-{self.width}"

    def build(self) -> nn.Module:
        return Cnn28Module(self.width, self.num_classes, self.in_channels)

    @classmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        ours = "conv3.weight" in shapes and "layer1.0.conv1.weight" not in shapes
        return {"width": width} if ours else None
