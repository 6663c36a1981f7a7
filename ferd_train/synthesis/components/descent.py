"""Steps of Adam on a batch of images; the batch with the lowest loss is kept.

B batch, C channels, H × W pixels, Z latent numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.attacks import frozen
from ferd_eval.errors import UserError
from ferd_train.synthesis.base import IMAGE_STEP, Setting, Synthetic
from ferd_train.synthesis.components.generator import Generator
from ferd_train.training.seams import Part
from ferd_train.training.seeds import Randomness

#: From images, the same as networks see them, and the step to a loss and its detached terms.
Score = Callable[[Tensor, Tensor, int], tuple[Tensor, Mapping[str, Tensor]]]

#: Adam's for generators, in the releases of FERD, CMI, FastDFKD and DFHL.
BETAS = (0.5, 0.999)


class BestBatch:
    """The batch with the lowest loss so far, kept on the device without waiting for it.

    A copy: whoever makes the images may go on to change them in place.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.forget()

    def forget(self) -> None:
        self._loss = torch.full((), torch.inf, device=self._device)
        self._step = torch.zeros((), dtype=torch.int64, device=self._device)
        self._x_BCHW: Tensor | None = None
        self._terms: Mapping[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        kept = {"loss": self._loss, "step": self._step, "images": self._x_BCHW}
        return {**kept, "terms": dict(self._terms)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._loss, self._step = (state[name].to(self._device) for name in ("loss", "step"))
        images = state["images"]
        self._x_BCHW = None if images is None else images.to(self._device)
        self._terms = {name: term.to(self._device) for name, term in state["terms"].items()}

    def see(self, loss: Tensor, x_BCHW: Tensor, terms: Mapping[str, Tensor], step: int) -> None:
        """Keep this batch if its loss is lower; NaN never is."""
        lower = loss < self._loss
        if self._x_BCHW is None:
            self._x_BCHW, self._terms = x_BCHW, terms
        # `where` makes new tensors, so nothing kept is written to later.
        self._x_BCHW = torch.where(lower, x_BCHW, self._x_BCHW)
        self._terms = {name: torch.where(lower, terms[name], self._terms[name]) for name in terms}
        self._step = torch.where(lower, step, self._step)
        self._loss = torch.where(lower, loss, self._loss)

    def synthetic(self, labels_B: Tensor, last_BCHW: Tensor) -> Synthetic:
        """The kept batch, with the labels of the whole batch and the images the networks saw last.

        Raises:
            UserError: no loss was finite.
        """
        assert self._x_BCHW is not None
        loss = float(self._loss)
        terms = {name: float(term) for name, term in self._terms.items()}
        if not math.isfinite(loss):
            # The first step's loss does not depend on the generator's learning rates.
            raise UserError(
                "the generator's loss was not finite from its first step on "
                f"({', '.join(f'{name} {term:g}' for name, term in terms.items())}): the student "
                "has diverged, or the teacher's logits or the weights lambda_... are too large. "
                "Start again in another folder with a lower --set distillation.lr=... ."
            )
        return Synthetic(self._x_BCHW, labels_B, last_BCHW, loss, terms, int(self._step))


class LastBatch(BestBatch):
    """The batch scored last."""

    def see(self, loss: Tensor, x_BCHW: Tensor, terms: Mapping[str, Tensor], step: int) -> None:
        self.forget()
        super().see(loss, x_BCHW, terms, step)


def descend(
    setting: Setting,
    steps: int,
    labels_B: Tensor,
    adam: torch.optim.Adam,
    images: Callable[[int], tuple[Tensor, Tensor]],
    score: Score,
    *,
    parts: Mapping[str, Part],
    best: BestBatch | None = None,
    generator: nn.Module | None = None,
    after_step: Callable[[Tensor], None] = lambda loss: None,
) -> Synthetic:
    """Lower a loss in steps of Adam, both networks frozen; return the batch kept.

    Args:
        labels_B: classes asked for, of the whole batch.
        adam: holds everything that is optimised.
        images: from a step, counted from 1, to its images, and the same as the networks see them.
        score: loss and terms of them, of the whole batch.
        parts: everything else that steps change, by name.
        best: keeps a batch; None for the one with the lowest loss.
        generator: whose gradients are summed over the processes.
        after_step: told the step's loss, its gradients still in place.
    """
    best = best or BestBatch(setting.device)
    parts = {**parts, "adam": adam, "best": best}
    with frozen(setting.teacher), frozen(setting.student):
        for step in setting.seams.steps(IMAGE_STEP, steps, parts):
            x_BCHW, seen_BCHW = images(step + 1)
            loss, terms = score(x_BCHW, seen_BCHW, step + 1)
            best.see(loss.detach(), x_BCHW.detach(), terms, step + 1)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if generator is not None:
                setting.share.workers.sum_gradients(generator.parameters())
            adam.step()
            after_step(loss.detach())
    return best.synthetic(labels_B, seen_BCHW.detach())


def descend_generator(
    setting: Setting,
    generator: Generator,
    steps: int,
    labels_B: Tensor,
    randomness: Randomness,
    score: Score,
    *,
    lr: float,
    latent_lr: float | None = None,
    parts: Mapping[str, Part],
    after_step: Callable[[Tensor], None] = lambda loss: None,
) -> Synthetic:
    """`descend` on a generator's weights and on new latents, with augmented images.

    Args:
        lr: of the weights.
        latent_lr: of the latents; None for one group of both.
        parts: everything but latents, Adam and the kept batch.
    """
    drawn_BZ = generator.draw_latents(len(labels_B), randomness.stream("latents"))
    latents_BZ = setting.share.own(drawn_BZ).requires_grad_()
    weights = [*generator.parameters()]
    groups: list[dict[str, Any]] = [{"params": [*weights, latents_BZ], "lr": lr}]
    if latent_lr is not None:
        groups = [{"params": weights, "lr": lr}, {"params": [latents_BZ], "lr": latent_lr}]

    def images(step: int) -> tuple[Tensor, Tensor]:
        x_BCHW = generator(latents_BZ)
        return x_BCHW, setting.augment(x_BCHW, randomness.seed("augment images", step))

    return descend(
        setting,
        steps,
        labels_B,
        torch.optim.Adam(groups, betas=BETAS),
        images,
        score,
        parts={**parts, "latents": latents_BZ},
        generator=generator,
        after_step=after_step,
    )
