"""What several tests share: where the real data lies, small networks, small data."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval.datasets import LabelledImages

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# On a busy machine Ray takes longer to start than it gives itself.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(int(os.environ.get("FERD_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and public checkpoints beside the repository."""
    if not (SHARED / "data" / "prepare.py").is_file():
        pytest.skip(f"no real data beside the repository ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def prepared(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real data in public layouts: exact CIFAR images and Fashion-MNIST."""
    out = tmp_path_factory.getbasetemp().parent / "prepared"
    arguments = sys.argv
    names = ["cifar10-official1017", "cifar100-official916", "fashion-mnist"]
    sys.argv = ["prepare.py", str(out), *names]
    try:
        runpy.run_path(str(shared / "data" / "prepare.py"), run_name="__main__")
    finally:
        sys.argv = arguments
    return out


class TinyNet(nn.Module):
    """A convolution, a batch norm and a linear layer with weights from a seed."""

    def __init__(self, num_classes: int = 4, channels: int = 1, side: int = 8, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(seed)
            self.conv = nn.Conv2d(channels, 6, 3, padding=1)
            self.bn = nn.BatchNorm2d(6)
            self.linear = nn.Linear(6 * side * side, num_classes)
            self.bn.running_mean.normal_(std=0.1)
            self.bn.running_var.uniform_(0.5, 1.5)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.bn(self.conv(x_BCHW))).flatten(1))


def tiny_data(n: int = 40, num_classes: int = 4, channels: int = 1, side: int = 8, seed: int = 0):
    """Random images labelled by the tiny network itself for the most part."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (n, channels, side, side), dtype=np.uint8)
    with torch.no_grad():
        logits = TinyNet(num_classes, channels, side).eval()(torch.from_numpy(images).float() / 255)
    labels = logits.argmax(1).numpy().astype(np.int64)
    labels[:num_classes] = np.arange(num_classes)
    return LabelledImages(
        name="tiny",
        images_NCHW=images,
        labels_N=labels,
        class_names=tuple(f"class {k}" for k in range(num_classes)),
        indices_N=np.arange(n, dtype=np.int64),
        source="generated",
    )


@pytest.fixture
def net() -> TinyNet:
    return TinyNet().eval()


@pytest.fixture
def data() -> LabelledImages:
    return tiny_data()


class Killed(Exception):  # noqa: N818
    """Stands for a kill."""


class StopAfter:
    """A reporter that stops the run once it has finished so many units; 0 never stops it."""

    def __init__(self, units: int) -> None:
        self.left = units

    def start(self, title): ...
    def note(self, text): ...
    def skip(self, cost, left): ...
    def advance(self, text, cost, left):
        self.left -= 1
        if self.left == 0:
            raise Killed
