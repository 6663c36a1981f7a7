"""One epoch's images: a generator is made anew, taught for a while, and its best batch kept.

FERD (arXiv 2509.20793), algorithm 1, lines 3 to 9. B batch, C channels, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ferd_eval.attacks import Noise, frozen
from ferd_eval.errors import UserError
from ferd_train.augment import crop_and_flip
from ferd_train.generator import Generator
from ferd_train.generator_losses import GeneratorObjective
from ferd_train.randomness import Randomness
from ferd_train.shared_batchnorm import share_batch_norm
from ferd_train.student_recipe import StudentRecipe
from ferd_train.workers import WHOLE, Share

# Adam's, as in the authors' release.
_BETAS = (0.5, 0.999)


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A batch that was made.

    Attributes:
        x_BCHW: the process's own images in [0, 1], as the generator made them in its best step.
        last_BCHW: those of the last step, augmented as the networks saw them.
        loss: lowest L_gen.
        terms: its unweighted terms at that step.
        step: the step, counted from 1.
    """

    x_BCHW: Tensor
    last_BCHW: Tensor
    loss: float
    terms: Mapping[str, float]
    step: int


class Synthesis:
    """Makes images for given classes, harder ones as the student learns.

    Raises:
        UserError: the teacher lacks what a term needs, or the images have sides that no generator
            makes.
    """

    def __init__(
        self,
        recipe: StudentRecipe,
        teacher: nn.Module,
        student: nn.Module,
        image_shape: tuple[int, int, int],
        device: torch.device,
        share: Share = WHOLE,
    ) -> None:
        """The networks are frozen while images are made, and unchanged after.

        With other processes, this one makes its `share` of each batch.
        """
        made = recipe.synthesis
        self._recipe, self._teacher, self._student = recipe, teacher, student
        self._objective = GeneratorObjective(
            teacher,
            student,
            made.weights,
            bottleneck=made.bottleneck,
            tap=made.tap or None,
            adversarial=made.adversarial,
            match_student=made.match_student,
        )
        self._generator = Generator(
            image_shape, torch.Generator(), latent=made.latent, width=made.width
        ).to(device)
        share_batch_norm(self._generator, share)
        self._share = share
        self._rehearse(image_shape, device)

    def _rehearse(self, image_shape: tuple[int, int, int], device: torch.device) -> None:
        """Score two grey images, so that what the objective does not take is said beforehand."""
        x_BCHW = torch.full((2, *image_shape), 0.5, device=device)
        labels_B = torch.zeros(2, dtype=torch.int64, device=device)
        with frozen(self._teacher), frozen(self._student):
            self._objective(x_BCHW, labels_B, torch.Generator(device))

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """Teach a new generator with N_G steps of Adam on its weights and its latents.

        Args:
            labels_B: classes of the whole batch.
            randomness: of the epoch.

        Raises:
            UserError: no step had a finite loss.
        """
        made, share = self._recipe.synthesis, self._share
        self._generator.reset(randomness.stream("generator"))
        drawn_BZ = self._generator.draw_latents(len(labels_B), randomness.stream("latents"))
        latents_BZ, labels_B = share.own(drawn_BZ).requires_grad_(), share.own(labels_B)
        adam = torch.optim.Adam(
            [
                {"params": self._generator.parameters(), "lr": made.lr},
                {"params": [latents_BZ], "lr": made.latent_lr},
            ],
            betas=_BETAS,
        )
        noise = randomness.stream("bottleneck", labels_B.device)
        best = _Best(labels_B.device)
        with frozen(self._teacher), frozen(self._student):
            for step in range(1, made.steps + 1):
                x_BCHW = self._generator(latents_BZ)
                seen_BCHW = self._augment(x_BCHW, randomness, step)
                losses = self._objective(seen_BCHW, labels_B, noise, share)
                best.see(losses.total.detach(), x_BCHW.detach(), losses.terms, step)
                adam.zero_grad(set_to_none=True)
                losses.total.backward()  # type: ignore[no-untyped-call]
                share.workers.sum_gradients(self._generator.parameters())
                adam.step()
        return best.synthetic(seen_BCHW.detach())

    def _augment(self, x_BCHW: Tensor, randomness: Randomness, step: int) -> Tensor:
        augmentation = self._recipe.augmentation
        places_B = self._share.places(x_BCHW)
        noise = Noise(randomness.seed("augment images", step), "augment", places_B)
        return crop_and_flip(x_BCHW, noise, augmentation.crop_padding, augmentation.flip)


class _Best:
    """The batch with the lowest loss so far, kept on the device without asking it for anything."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.full((), torch.inf, device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._x_BCHW: Tensor | None = None
        self._terms: Mapping[str, Tensor] = {}

    def see(self, loss: Tensor, x_BCHW: Tensor, terms: Mapping[str, Tensor], step: int) -> None:
        """Keep this batch if its loss is lower; one that is not a number never is."""
        lower = loss < self._loss
        if self._x_BCHW is None:
            self._x_BCHW, self._terms = x_BCHW, terms
        # `where` makes new tensors, so nothing kept is written to later.
        self._x_BCHW = torch.where(lower, x_BCHW, self._x_BCHW)
        self._terms = {name: torch.where(lower, terms[name], self._terms[name]) for name in terms}
        self._step = torch.where(lower, step, self._step)
        self._loss = torch.where(lower, loss, self._loss)

    def synthetic(self, last_BCHW: Tensor) -> Synthetic:
        """What was kept."""
        assert self._x_BCHW is not None
        loss = float(self._loss)
        terms = {name: float(term) for name, term in self._terms.items()}
        if not math.isfinite(loss):
            # The first step's loss knows nothing of the generator's learning rates.
            raise UserError(
                "the generator's loss was not finite from its first step on "
                f"({', '.join(f'{name} {term:g}' for name, term in terms.items())}): the student "
                "has diverged, or the teacher's logits or the weights lambda_... are too large. "
                "Start again in another folder with a lower --set distillation.lr=... ."
            )
        return Synthetic(self._x_BCHW, last_BCHW, loss, terms, int(self._step))
