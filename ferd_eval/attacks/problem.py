"""Images to attack, the networks that answer for them, and an attack's answer.

B batch, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.losses import margin
from ferd_eval.attacks.passes import Passes
from ferd_eval.attacks.pixel_bounds import distance_inside, inside
from ferd_eval.attacks.threat import Threat

Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to attack, on the network's device and in its precision."""

    x_BCHW: Tensor  #: pixels in [0, 1]
    labels_B: Tensor  #: true classes
    indices_B: Tensor  #: positions in the data set; random numbers are keyed by them
    clean_logits_BK: Tensor  #: the network's output on `x_BCHW`


@dataclass(frozen=True, eq=False)
class Problem:
    """All that an attack has to work with."""

    model: nn.Module  #: the network that the attack searches with
    judge: nn.Module  #: the network under test, which decides; `model` itself but for rounding
    x_BCHW: Tensor  #: clean images; the answer must have this shape
    labels_B: Tensor  #: true classes
    targets_B: Tensor | None  #: class aimed at, or None when any wrong class will do
    clean_logits_BK: Tensor  #: output on the clean images, already computed
    threat: Threat  #: the ball to stay in
    noise: KeyedRng  #: random numbers keyed by image; never use torch's global generator
    passes: Passes  #: counts the images that go through a network
    slots: int  #: images per forward pass that memory is known to bear; at most B
    #: Held while `model` computes, forward and backward, and never while `judge` does.
    arithmetic: Callable[[], AbstractContextManager[Any]] = nullcontext
    slack: float = 0.0  #: margins of `model` may be off by this much

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value allowed for each pixel; do not write into them."""
        return self.threat.bounds(self.x_BCHW)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """One forward pass without gradient, shape B×K."""
        with self.arithmetic():
            return self._forward(self.model, x_BCHW)

    def verdict_logits(self, x_BCHW: Tensor) -> Tensor:
        """One forward pass through the network under test, shape B×K."""
        return self._forward(self.judge, x_BCHW)

    def _forward(self, network: nn.Module, x_BCHW: Tensor) -> Tensor:
        self.passes.forward += len(x_BCHW)
        with torch.no_grad():
            logits_BK: Tensor = network(x_BCHW)
        return logits_BK

    def looks_wrong(self, logits_BK: Tensor) -> Tensor:
        """Whether each image may be misclassified, by `model`'s logits; never no where it is.

        An image that `model` gets right by less than its rounding is one to show to `judge`.
        """
        wrong_B = looks_wrong(logits_BK, self.labels_B)
        return wrong_B | (margin(logits_BK, self.labels_B) > -self.slack) if self.slack else wrong_B

    def gradient(self, x_BCHW: Tensor, objective: Objective) -> Tensor:
        """Gradient of ``objective(logits)`` (shape B) with respect to each image."""
        return self.evaluate(x_BCHW, objective)[2]

    @torch.enable_grad()
    def evaluate(self, x_BCHW: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """Logits B×K, ``objective(logits)`` (B) and its gradient with respect to each image.

        Works where gradients are off, as in searches.
        Networks that clamp their input are looked at just inside the pixel range, see
        `ferd_eval.attacks.pixel_bounds`.
        """
        self.passes.forward += len(x_BCHW)
        self.passes.backward += len(x_BCHW)
        distance = distance_inside(self.judge, x_BCHW, self.passes)
        leaf_BCHW = inside(x_BCHW.detach(), distance).requires_grad_()
        with self.arithmetic():
            logits_BK = self.model(leaf_BCHW)
            value_B = objective(logits_BK)
            (gradient_BCHW,) = torch.autograd.grad(value_B.sum(), leaf_BCHW)
        return logits_BK.detach(), value_B.detach(), gradient_BCHW

    def select(self, images_L: Tensor, targets_L: Tensor | None) -> Problem:
        """The same problem for some of the images, by index, with these targets."""
        return replace(
            self,
            x_BCHW=self.x_BCHW[images_L],
            labels_B=self.labels_B[images_L],
            targets_B=targets_L,
            clean_logits_BK=self.clean_logits_BK[images_L],
            noise=self.noise.select(images_L, targets_L),
            slots=min(self.slots, len(images_L)),
        )

    def uniform_start(self) -> Tensor:
        """A point drawn uniformly from the ball, clipped to the pixel range."""
        noise_BCHW = self.noise.uniform(tuple(self.x_BCHW.shape[1:]), self.x_BCHW.dtype)
        radius = self.threat.radius
        return noise_BCHW.mul_(2 * radius).sub_(radius).add_(self.x_BCHW).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """An attack's answer, with its cost."""

    adv_BCHW: Tensor  #: perturbed images
    steps_B: Tensor  #: gradient steps or queries spent on each
    #: Part of the attack that broke each image; None where none did or the attack has one part.
    stages: tuple[str | None, ...]


def looks_wrong(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Whether an image may be misclassified, B: cheap, and never no where `predict` says so.

    A label whose logit is not finite is never predicted, though argmax would pick a NaN.
    """
    lost_B = ~logits_BK.gather(1, labels_B.unsqueeze(1)).squeeze(1).isfinite()
    return lost_B | (logits_BK.argmax(dim=1) != labels_B)


def predict(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Predicted classes, B. A label whose logit is not finite is never the prediction."""
    label_B1 = labels_B.unsqueeze(1)
    usable_BK = torch.where(logits_BK.isfinite(), logits_BK, -torch.inf)
    lost_B1 = ~logits_BK.gather(1, label_B1).isfinite()
    # Below every −∞ there is nothing: where all are lost, any class but the label is predicted.
    others_BK = torch.where(usable_BK.isfinite(), usable_BK, torch.finfo(logits_BK.dtype).min)
    barred_BK = others_BK.scatter(1, label_B1, -torch.inf)
    return torch.where(lost_B1, barred_BK, usable_BK).argmax(dim=1)
