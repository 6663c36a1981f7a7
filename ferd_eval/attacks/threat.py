"""What an attacker may do to an image. B batch, C channels, H × W pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ferd_eval.errors import UserError
from ferd_eval.io.epsilon import format_quantity, parse_quantity


@dataclass(frozen=True)
class Threat:
    """An L∞ ball of radius `eps` around the image, inside the pixel range [0, 1].

    `eps` may be given as a fraction, a number or a string such as ``"8/255"``; it is kept exact.
    """

    eps: Fraction
    norm: str = "linf"

    def __init__(self, eps: Fraction | float | str, norm: str = "linf") -> None:
        if norm != "linf":
            raise UserError(f"the norm is {norm!r}, but attacks know only linf. Leave it out.")
        object.__setattr__(self, "eps", parse_quantity(eps, "--eps"))
        object.__setattr__(self, "norm", norm)

    @property
    def radius(self) -> float:
        """ε as a float, in units of the pixel range [0, 1]."""
        return float(self.eps)

    def __str__(self) -> str:
        return f"L∞ ε = {format_quantity(self.eps)}"

    def bounds(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value allowed for each pixel."""
        return (x_BCHW - self.radius).clamp_(min=0), (x_BCHW + self.radius).clamp_(max=1)

    def distance(self, x_BCHW: Tensor, adv_BCHW: Tensor) -> Tensor:
        """Size of each perturbation in the threat's norm, shape B."""
        return (adv_BCHW - x_BCHW).flatten(1).abs().amax(dim=1)

    def project(self, adv_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
        """Nearest allowed image; pixels that are not finite fall back to the clean ones."""
        low_BCHW, high_BCHW = self.bounds(x_BCHW)
        finite_BCHW = torch.where(adv_BCHW.isfinite(), adv_BCHW, x_BCHW)
        return torch.minimum(torch.maximum(finite_BCHW, low_BCHW), high_BCHW)
