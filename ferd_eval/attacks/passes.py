"""What attacks cost, whatever the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Passes:
    """Images sent through the network, counted one by one."""

    forward: int = 0
    backward: int = 0
