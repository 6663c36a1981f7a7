"""Adversarial images made elsewhere, as an attack: it looks them up. N images, C × H × W pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ferd_eval.attacks.base import Attack, Problem
from ferd_eval.attacks.threat import Threat
from ferd_eval.pixel_rounding import Rounding


@dataclass(frozen=True, eq=False)
class SavedImages(Attack):
    """Answers with the image saved for each index; the base moves it into the ball.

    Attributes:
        family: the id of the attack that made them.
        images_NCHW: pixels in [0, 1].
        indices_N: places of the images in their data set, in increasing order.
        sha256: of the file they come from.
        largest: the largest ‖x_adv − x‖∞ among them.
        eps_is_stated: whether somebody said for which ε they were made.
        rounding: the numbers they were stored in, where that may matter.
        beyond: images that these moved out of the ball.
    """

    family: str
    images_NCHW: Tensor
    indices_N: Tensor
    sha256: str
    largest: float
    eps_is_stated: bool = True
    rounding: Rounding | None = None
    beyond: int = 0
    steps = 0  # of ours

    def perturb(self, problem: Problem) -> Tensor:
        """The saved images of a batch."""
        wanted_B = problem.noise.indices_B.cpu()
        rows_B = torch.searchsorted(self.indices_N, wanted_B)
        assert torch.equal(self.indices_N[rows_B], wanted_B), "an image was not saved"
        return self.images_NCHW[rows_B].to(problem.x_BCHW)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """What is known of them: how they were made is not."""
        known: dict[str, Any] = {"largest_linf": self.largest, "images_sha256": self.sha256}
        if not self.eps_is_stated:
            known |= {"eps": None, "eps_text": None}
        if self.rounding is not None:
            known |= {
                "stored_in": self.rounding.type,
                "rounding_tolerance": self.rounding.most,
                "moved_back_to_eps": self.beyond,
            }
        return known

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """One pass, for the verdict."""
        return 1, 0
