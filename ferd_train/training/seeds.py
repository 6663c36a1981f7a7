"""A run's random numbers, keyed by seed, epoch and purpose, so that they need no state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Randomness:
    """The random numbers of one epoch.

    Attributes:
        run: the run's seed.
        epoch: counted from 1; 0 before the first.
    """

    run: int
    epoch: int

    def seed(self, purpose: str, step: int = 0) -> int:
        """A seed below 2⁶³ for one purpose, and one step of it."""
        text = f"{self.run}:{self.epoch}:{purpose}:{step}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def stream(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A separate generator for one purpose."""
        return torch.Generator(device).manual_seed(self.seed(purpose))
