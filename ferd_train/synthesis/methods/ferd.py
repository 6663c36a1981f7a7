"""FERD's images: a generator is reset each epoch, trained for a while, and its best batch kept.

arXiv 2509.20793, algorithm 1, lines 3 to 9. B batch, C channels, H × W pixels, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ferd_eval.attacks import frozen
from ferd_train.config.checks import Count, NotNegative, OneOf, Positive
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.bottleneck import Bottleneck
from ferd_train.synthesis.components.descent import descend_generator
from ferd_train.synthesis.components.feature_layer import require_positions
from ferd_train.synthesis.components.generator import run_generator
from ferd_train.synthesis.components.generator_losses import ADVERSARIAL_TERMS, GeneratorObjective
from ferd_train.training.folding import FoldedNetwork
from ferd_train.training.seeds import Randomness


@dataclass(frozen=True)
class FERDRecipe(SynthesisRecipe):
    """Fairness-aware examples; the values of the variant `ferd` at the scale of CIFAR-10.

    Attributes:
        steps: N_G, generator steps an epoch.
        width: of the generator; 64 in the paper.
        lambda_adv, lambda_bn, lambda_oh: weights of L_adv, L_bn and L_oh.
        lambda_uni: weight of L_uni; 0 makes plain images in place of FAEs.
        adversarial: form of L_adv, a name in `ADVERSARIAL_TERMS`.
        match_student: L_bn over the student's layers too (paper), or the teacher's alone (release).
        tap: layer after which the teacher is cut for L_uni; empty for its family's own.
        bottleneck: which features are not robust.
    """

    implied: ClassVar[Mapping[str, Any]] = {}
    method: str = field(default="ferd", init=False)
    steps: Count = 400
    lr: Positive = 2e-3
    latent_lr: Positive = 0.015
    latent: Count = 100
    width: Count = 64
    lambda_adv: NotNegative = 1.0
    lambda_bn: NotNegative = 5.0
    lambda_oh: NotNegative = 1.0
    lambda_uni: NotNegative = 5.0
    adversarial: Annotated[str, OneOf(ADVERSARIAL_TERMS)] = "kl"
    match_student: bool = False
    tap: str = ""
    bottleneck: Bottleneck = field(default_factory=Bottleneck)

    @property
    def term_weights(self) -> Mapping[str, float]:
        return {
            "adv": self.lambda_adv, "bn": self.lambda_bn,
            "oh": self.lambda_oh, "uni": self.lambda_uni,
        }  # fmt: skip

    def build(self, setting: Setting) -> FERD:
        return FERD(self, setting)


class FERD(Synthesis):
    """Makes images for given classes, harder ones as the student learns.

    Raises:
        UserError: the teacher lacks something that a term needs, or no generator makes images of
            these sides.
    """

    def __init__(self, recipe: FERDRecipe, setting: Setting) -> None:
        super().__init__(setting)
        self._recipe = recipe
        # The student is asked for logits alone, unless its layers are looked at.
        watched = bool(recipe.match_student and recipe.lambda_bn)
        still = FoldedNetwork(setting.student, setting.image_shape)
        self._still_student = still
        self._objective = GeneratorObjective(
            setting.teacher,
            setting.student if watched else still,
            recipe.term_weights,
            bottleneck=recipe.bottleneck,
            layer=recipe.tap or None,
            adversarial=recipe.adversarial,
            match_student=recipe.match_student,
        )
        self._generator = run_generator(setting, recipe.latent, recipe.width)
        # Two grey images are scored, so that errors come before the run.
        x_BCHW = torch.full((2, *setting.image_shape), 0.5, device=setting.device)
        labels_B = torch.zeros(2, dtype=torch.int64, device=setting.device)
        with frozen(setting.teacher), frozen(setting.student):
            if recipe.lambda_uni:
                require_positions(setting.teacher, recipe.tap or None, x_BCHW)
            self._objective(x_BCHW, labels_B, torch.Generator(setting.device))

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """Train a new generator for N_G steps of Adam on its weights and its latents."""
        recipe, setting = self._recipe, self.setting
        share = setting.share
        self._generator.reset(randomness.stream("generator"))
        self._still_student.refresh()
        own_B = share.own(labels_B)
        noise = randomness.stream("bottleneck", labels_B.device)

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            return self._objective(seen_BCHW, own_B, noise, share)

        return descend_generator(
            setting,
            self._generator,
            recipe.steps,
            labels_B,
            randomness,
            score,
            lr=recipe.lr,
            latent_lr=recipe.latent_lr,
            parts={"generator": self._generator, "noise": noise},
        )
