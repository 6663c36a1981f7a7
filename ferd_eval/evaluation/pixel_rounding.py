"""How far storing images in few bits may have moved their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Grids that floating-point images are found on after a detour through fewer bits.
_GRIDS = ("bfloat16", "float16", "uint8")


@dataclass(frozen=True)
class Rounding:
    """Numbers of few bits that images were stored in."""

    type: str  #: ``uint8``, or one of torch's floating-point types: ``float16``, ``bfloat16``, …

    @classmethod
    def of(cls, stored: Tensor) -> Rounding | None:
        """The coarsest type that holds all pixels; None from 24 bits on."""
        if not stored.is_floating_point():
            return cls("uint8")
        if torch.finfo(stored.dtype).bits < 32:
            return cls(str(stored.dtype).removeprefix("torch."))
        found = (cls(type_) for type_ in _GRIDS)
        return next((each for each in found if each._holds(stored)), None)

    @property
    def most(self) -> float:
        """Farthest that a pixel in [0, 1] can have moved."""
        return 1 / 255 if self.type == "uint8" else self._eps / 2

    def room(self, x: Tensor, stored: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """How far below and above an attack's own result its stored pixels, in [0, 1], may lie.

        Whole numbers are made by rounding, up to 1/510 either way, or by cutting off decimals as
        torchattacks does: up to 1/255 down. A float is rounded by half a spacing at most; an attack
        that worked in such numbers began with an image, and took an ε, rounded like that.
        """
        if self.type == "uint8":
            return 1 / 255, 0.5 / 255
        spaced = (self._spacing(x) + self._spacing(stored)) / 2
        spaced += self._eps / 2 * (stored - x).abs()
        return spaced, spaced

    def _holds(self, stored: Tensor) -> bool:
        """Whether storing the pixels so changes none; one image mostly decides."""
        return all(bool(self._same(part)) for part in (stored[:1], stored))

    def _same(self, part: Tensor) -> Tensor:
        if self.type == "uint8":
            whole = 255 * part
            return ((whole - whole.round()).abs() < 1e-4).all()
        return (part.to(getattr(torch, self.type)).to(part.dtype) == part).all()

    @property
    def _eps(self) -> float:
        return torch.finfo(getattr(torch, self.type)).eps

    def _spacing(self, pixels: Tensor) -> Tensor:
        """Distance between neighbouring numbers at each pixel."""
        smallest = torch.finfo(getattr(torch, self.type)).tiny
        exponent = torch.frexp(pixels.abs().clamp(min=smallest)).exponent
        return torch.ldexp(torch.full_like(pixels, self._eps), exponent - 1)
