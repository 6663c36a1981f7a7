"""How far a likeness of a network is from it. B batch, C channels, K classes, H × W pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ferd_eval.attacks import SearchNetwork, frozen

#: Images in a pass: more could be too large for memory, and time does not matter here.
_AT_ONCE = 8


@dataclass(frozen=True)
class Agreement:
    """Two networks' logits on the same clean images, compared."""

    images: int
    same_class: int  #: of how many both predict the same class
    largest_difference: float  #: of two logits, relative to the largest logit
    largest_logit: float

    @classmethod
    def of(cls, ours_BK: Tensor, likeness: SearchNetwork, x_BCHW: Tensor) -> Agreement:
        """Of a network's logits on images, and what is to search in its place."""
        with frozen(likeness.model), torch.no_grad(), likeness.arithmetic():
            theirs_BK = torch.cat([likeness.model(few) for few in torch.split(x_BCHW, _AT_ONCE)])
        largest = ours_BK.abs().max()
        return cls(
            images=len(x_BCHW),
            same_class=int((ours_BK.argmax(1) == theirs_BK.argmax(1)).sum()),
            largest_difference=float((ours_BK - theirs_BK).abs().max() / largest),
            largest_logit=float(largest),
        )

    @property
    def margin(self) -> float:
        """How far the difference of two logits may be off."""
        return 2 * self.largest_difference * self.largest_logit

    def within(self, difference: float, other_class: float = 0.0) -> bool:
        """Whether logits differ by no more than this, and classes for no larger share of images."""
        others = self.images - self.same_class
        return self.largest_difference <= difference and others <= other_class * self.images

    def describe(self) -> dict[str, Any]:
        return asdict(self)
