"""Real training images in place of made ones: the reference of data-free students.

B batch, C channels, H × W pixels, N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ferd_train.synthesis.base import Feed, RealImages, Setting, Synthesis, SynthesisRecipe
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.seeds import Randomness
from ferd_train.training.validation import take


@dataclass(frozen=True)
class RealRecipe(SynthesisRecipe):
    """Nothing is made; the student learns from the training split, so this is not data-free.

    Attributes:
        dataset: whose training split, without the images that are held out for validation.
    """

    implied: ClassVar[Mapping[str, Any]] = {**SynthesisRecipe.implied, "warmup": 0}
    method: str = field(default="data", init=False)
    dataset: str = ""

    def build(self, setting: Setting) -> Real:
        return Real(setting)


class Real(Synthesis):
    """Deals out real images in shuffled passes, each image once a pass."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        assert setting.real is not None, "a run that learns from real images loads them"
        self._real: RealImages = setting.real
        self._dealt = 0
        self._drawn, self._order_N = -1, torch.zeros(0, dtype=torch.int64)

    def make(self, labels_B: Tensor, randomness: Randomness) -> None:
        return None

    def feed(self, bank: Bank, randomness: Randomness) -> Feed:
        setting = self.setting

        def draw(step: int) -> tuple[Tensor, Tensor]:
            row_O = setting.share.own(self._deal(setting.batch_size))
            x_BCHW, labels_B, _ = take(self._real.images, row_O.numpy(), setting.device)
            return setting.augment(x_BCHW, randomness.seed("augment draws", step)), labels_B

        return Feed(draw)

    def _deal(self, count: int) -> Tensor:
        """Rows of the next `count` images; a pass may begin among them."""
        parts, rows_N = [], torch.from_numpy(self._real.rows_N)
        while count:
            number, begun = divmod(self._dealt, len(rows_N))
            part = self._order(number, len(rows_N))[begun : begun + count]
            parts.append(rows_N[part])
            self._dealt += len(part)
            count -= len(part)
        return torch.cat(parts)

    def _order(self, number: int, size: int) -> Tensor:
        """The order of a pass, which is drawn once and looked up by the steps that follow."""
        if self._drawn != number:
            shuffled = Randomness(self.setting.seed, 0).seed("pass", number)
            self._order_N = torch.randperm(size, generator=torch.Generator().manual_seed(shuffled))
            self._drawn = number
        return self._order_N

    def state(self) -> dict[str, Any]:
        return {"dealt": self._dealt}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._dealt = int(state["dealt"])
