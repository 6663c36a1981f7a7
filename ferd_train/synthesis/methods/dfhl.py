"""DFHL's images: the student is sure of each one's class, and all classes come about evenly.

Yuan et al., "Data-free hard-label robustness stealing attack", AAAI 2024. The teacher is not asked,
for there it answers a limited number of questions. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from ferd_eval.attacks import frozen
from ferd_train.config.checks import (
    require_at_least,
    require_not_negative,
    require_positive,
    require_share,
)
from ferd_train.synthesis.base import (
    IMAGE_STEP,
    BestBatch,
    Setting,
    Synthesis,
    SynthesisRecipe,
    Synthetic,
)
from ferd_train.synthesis.components.generator import Generator, usual_weights
from ferd_train.training.seams import Part
from ferd_train.training.seeds import Randomness
from ferd_train.training.sync_batchnorm import share_batch_norm

# Adam's, as in the authors' release.
_BETAS = (0.5, 0.999)
# 0·log 0 is not a number, and a class that no image is given rounds to 0 in single precision.
_LEAST = 1e-12


def smoothed_labels(labels_B: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """1 − s for the label and s/(K − 1) for each other class, B×K."""
    others = smoothing / (num_classes - 1)
    even_BK = torch.full((len(labels_B), num_classes), others, device=labels_B.device)
    return even_BK.scatter(1, labels_B[:, None], 1 - smoothing)


def label_divergence(student_BK: Tensor, labels_B: Tensor, smoothing: float) -> Tensor:
    """L_cls = KL(smoothed label ‖ p_S), the batch mean."""
    target_BK = smoothed_labels(labels_B, student_BK.shape[1], smoothing)
    return kl_div(student_BK.log_softmax(dim=1), target_BK, reduction="batchmean")


def concentration(student_BK: Tensor) -> Tensor:
    """L_div = Σ_k p̄_k log₁₀ p̄_k of the batch's mean prediction p̄: lowest where that is even."""
    mean_K = student_BK.softmax(dim=1).mean(dim=0).clamp(min=_LEAST)
    return (mean_K * mean_K.log10()).sum()


@dataclass(frozen=True)
class DFHLRecipe(SynthesisRecipe):
    """Images by the student alone; values of the authors' release for CIFAR-10.

    Attributes:
        steps: N_G, generator steps an epoch.
        lr: Adam's, for the generator's weights.
        latent_lr: Adam's, for the latents.
        latent: numbers in a latent.
        width: of the generator.
        smoothing: of the labels, for all classes but the one asked for together.
        lambda_div: weight of L_div; 0 switches it off.
    """

    method: str = field(default="dfhl", init=False)
    steps: int = 10
    lr: float = 2e-3
    latent_lr: float = 0.01
    latent: int = 256
    width: int = 64
    smoothing: float = 0.2
    lambda_div: float = 3.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "latent", "width")
        require_positive(self, "lr", "latent_lr")
        require_share(self, "smoothing")
        require_not_negative(self, "lambda_div")

    def build(self, setting: Setting) -> DFHL:
        """The method."""
        return DFHL(self, setting)


class DFHL(Synthesis):
    """One generator for the whole run, taught a little each epoch with new latents and a new Adam.

    Labels are the classes asked for. The release writes down what the teacher sees instead, which
    neither of its recipes' losses reads.

    Raises:
        UserError: the images have sides that no generator makes.
    """

    def __init__(self, recipe: DFHLRecipe, setting: Setting) -> None:
        super().__init__(setting)
        self._recipe = recipe
        self._generator = Generator(
            setting.image_shape,
            Randomness(setting.seed, 0).stream("generator"),
            latent=recipe.latent,
            width=recipe.width,
            draw=usual_weights,
        ).to(setting.device)
        share_batch_norm(self._generator, setting.share)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """Teach the generator with N_G steps of Adam on its weights and new latents."""
        recipe, setting = self._recipe, self.setting
        share = setting.share
        drawn_BZ = self._generator.draw_latents(len(labels_B), randomness.stream("latents"))
        latents_BZ = share.own(drawn_BZ).requires_grad_()
        adam = torch.optim.Adam(
            [
                {"params": self._generator.parameters(), "lr": recipe.lr},
                {"params": [latents_BZ], "lr": recipe.latent_lr},
            ],
            betas=_BETAS,
        )
        best = BestBatch(labels_B.device)
        parts: Mapping[str, Part] = {"latents": latents_BZ, "adam": adam, "best": best}
        with frozen(setting.student):
            for step in setting.seams.steps(IMAGE_STEP, recipe.steps, parts):
                x_BCHW = self._generator(latents_BZ)
                seen_BCHW = setting.augment(x_BCHW, randomness.seed("augment images", step + 1))
                terms = self._terms(share.gather(setting.student(seen_BCHW)), labels_B)
                loss = terms["cls"]
                if "div" in terms:
                    loss = loss + recipe.lambda_div * terms["div"]
                shown = {name: term.detach() for name, term in terms.items()}
                best.see(loss.detach(), x_BCHW.detach(), shown, step + 1)
                adam.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                share.workers.sum_gradients(self._generator.parameters())
                adam.step()
        return best.synthetic(labels_B, seen_BCHW.detach())

    def _terms(self, student_BK: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        """The terms that are on, unweighted."""
        terms = {"cls": label_divergence(student_BK, labels_B, self._recipe.smoothing)}
        if self._recipe.lambda_div:
            terms["div"] = concentration(student_BK)
        return terms

    def state(self) -> dict[str, Any]:
        """The generator; latents and optimiser are new each epoch."""
        return {"generator": self._generator.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._generator.load_state_dict(state["generator"])
