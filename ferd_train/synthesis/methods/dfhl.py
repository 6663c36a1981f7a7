"""DFHL's images: the student is sure of each one's class, and the classes are about even.

Yuan et al., "Data-free hard-label robustness stealing attack", AAAI 2024. The teacher is not used,
as there it answers a limited number of queries. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from ferd_train.config.checks import Count, NotNegative, Positive, Share
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.descent import descend_generator
from ferd_train.synthesis.components.generator import run_generator, usual_weights
from ferd_train.training.seams import Remembering
from ferd_train.training.seeds import Randomness

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
        smoothing: of the labels, for all classes but the one asked for together.
        lambda_div: weight of L_div; 0 switches it off.
    """

    method: str = field(default="dfhl", init=False)
    steps: Count = 10
    lr: Positive = 2e-3
    latent_lr: Positive = 0.01
    latent: Count = 256
    width: Count = 64
    smoothing: Share = 0.2
    lambda_div: NotNegative = 3.0

    @property
    def term_weights(self) -> Mapping[str, float]:
        return {"cls": 1.0, "div": self.lambda_div}

    def build(self, setting: Setting) -> DFHL:
        return DFHL(self, setting)


class DFHL(Synthesis):
    """One generator for the whole run, trained a little each epoch with new latents and a new Adam.

    Labels are the classes asked for. The release records the teacher's predictions instead, which
    neither of its recipes' losses reads.

    Raises:
        UserError: the images have sides that no generator makes.
    """

    def __init__(self, recipe: DFHLRecipe, setting: Setting) -> None:
        super().__init__(setting)
        self._recipe = recipe
        self._generator = run_generator(setting, recipe.latent, recipe.width, usual_weights)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """Train the generator for N_G steps of Adam on its weights and new latents."""
        recipe, setting = self._recipe, self.setting

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            student_BK = setting.share.gather(setting.student(seen_BCHW))
            terms = recipe.on(
                cls=lambda: label_divergence(student_BK, labels_B, recipe.smoothing),
                div=lambda: concentration(student_BK),
            )
            return recipe.scored(terms)

        return descend_generator(
            setting,
            self._generator,
            recipe.steps,
            labels_B,
            randomness,
            score,
            lr=recipe.lr,
            latent_lr=recipe.latent_lr,
            parts={},
        )

    def parts(self) -> Mapping[str, Remembering]:
        return {"generator": self._generator}
