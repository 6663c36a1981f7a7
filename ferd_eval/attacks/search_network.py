"""The network that an attack searches with: the one under test, or a cheaper likeness of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class SearchNetwork:
    """A network that proposes. It maps images B×C×H×W in single precision to logits B×K in it."""

    model: nn.Module
    #: Held while it computes, forward and backward; never while the network under test decides.
    arithmetic: Callable[[], AbstractContextManager[Any]] = nullcontext
    #: How far its logits are off: whatever its margin is, the other network's may be so much less.
    slack: float = 0.0
