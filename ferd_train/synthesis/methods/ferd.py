"""FERD's images: a generator is trained for a while each epoch, and its best batch kept.

arXiv 2509.20793, algorithm 1, lines 3 to 9; and what this project adds for stronger students
(docs/why-ferd-falls-short.md): a generator that lasts, losses on attacked views, and batches of
DeepInversion's between. B batch, C channels, H × W pixels, Z latent numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from ferd_eval.attacks import frozen
from ferd_train.config.checks import Count, NotNegative, OneOf, Positive, Share, ShareOrAll
from ferd_train.config.unfit import UnfitError
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.attacked_views import attacking, is_due
from ferd_train.synthesis.components.bottleneck import Bottleneck
from ferd_train.synthesis.components.descent import descend_generator
from ferd_train.synthesis.components.feature_layer import require_positions
from ferd_train.synthesis.components.generator import run_generator
from ferd_train.synthesis.components.generator_losses import ADVERSARIAL_TERMS, GeneratorObjective
from ferd_train.synthesis.methods.deepinv import DeepInvRecipe
from ferd_train.training.folding import FoldedNetwork
from ferd_train.training.seams import Remembering
from ferd_train.training.seeds import Randomness

# Before the names of DeepInversion's terms, whose images are scored otherwise.
_INVERTED = "inverted_"


@dataclass(frozen=True)
class FERDRecipe(SynthesisRecipe):
    """Fairness-aware examples; the values of the variant `ferd` at the scale of CIFAR-10.

    Attributes:
        steps: N_G, generator steps an epoch.
        renew: whether each epoch begins with a new generator (paper), or goes on with the last
            one's, with new latents and a new Adam.
        attacked: share of a batch that is scored after one step of FGSM against the teacher; 0 in
            the paper. See `attacked_views`.
        inverted: share of the epochs whose images are DeepInversion's: a bank of two kinds of
            images. Data-free training from several kinds is DataFreeShield's (Lee et al., ICML
            2024), there by random weights of the losses.
        spread: each epoch's weights are multiplied by U(1 − spread, 1 + spread), each by its own;
            near 1 as in DataFreeShield, whose weights are U(0, 1).
        width: of the generator; 64 in the paper.
        lambda_adv, lambda_bn, lambda_oh: weights of L_adv, L_bn and L_oh; 1, 5 and 1 in the paper.
        lambda_uni: weight of L_uni; 5 in the paper, 0 makes plain images in place of FAEs.
        adversarial: form of L_adv, a name in `ADVERSARIAL_TERMS`.
        match_student: L_bn over the student's layers too (paper), or the teacher's alone (release).
        tap: layer after which the teacher is cut for L_uni; empty for its family's own.
        bottleneck: which features are not robust.
        inversion: of the epochs that are DeepInversion's.
    """

    implied: ClassVar[Mapping[str, Any]] = {}
    method: str = field(default="ferd", init=False)
    steps: Count = 400
    renew: bool = False
    attacked: ShareOrAll = 0.5
    inverted: Share = 1 / 3
    spread: Share = 0.0
    lr: Positive = 2e-3
    latent_lr: Positive = 0.015
    latent: Count = 100
    width: Count = 64
    lambda_adv: NotNegative = 1.0
    lambda_bn: NotNegative = 5.0
    lambda_oh: NotNegative = 20.0
    lambda_uni: NotNegative = 0.0
    adversarial: Annotated[str, OneOf(ADVERSARIAL_TERMS)] = "kl"
    match_student: bool = False
    tap: str = ""
    bottleneck: Bottleneck = field(default_factory=Bottleneck)
    inversion: DeepInvRecipe = field(default_factory=lambda: DeepInvRecipe(lambda_oh=20.0))

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
        self._still_teacher = FoldedNetwork(setting.teacher, setting.image_shape)
        self._weights = recipe.term_weights
        self._inversion = None
        if recipe.inverted:
            try:
                self._inversion = recipe.inversion.build(setting)
            except UnfitError as unfit:
                raise unfit.below("synthesis", "inversion") from None
        self._objective = GeneratorObjective(
            setting.teacher,
            setting.student if watched else still,
            recipe.term_weights,
            bottleneck=recipe.bottleneck,
            layer=recipe.tap or None,
            adversarial=recipe.adversarial,
            match_student=recipe.match_student,
            weigher=lambda terms: self._weights,
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
        """Train the generator for N_G steps of Adam on its weights and on new latents."""
        recipe, setting = self._recipe, self.setting
        if self._inversion is not None and is_due(randomness.epoch, recipe.inverted):
            made = self._inversion.make(labels_B, randomness)
            terms = {f"{_INVERTED}{name}": each for name, each in made.terms.items()}
            return dataclasses.replace(made, terms=terms)
        share = setting.share
        if recipe.renew:
            self._generator.reset(randomness.stream("generator"))
        self._still_student.refresh()
        own_B = share.own(labels_B)
        noise = randomness.stream("bottleneck", labels_B.device)
        attack = attacking(setting, self._still_teacher, labels_B, recipe.attacked)
        factors = self._factors(randomness)
        self._weights = {name: w * factors[name] for name, w in recipe.term_weights.items()}

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            return self._objective(attack(seen_BCHW), own_B, noise, share)

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

    def _factors(self, randomness: Randomness) -> Mapping[str, float]:
        """Of the epoch's weights, by term."""
        spread, terms = self._recipe.spread, self._recipe.term_weights
        drawn = torch.rand(len(terms), generator=randomness.stream("factors"), dtype=torch.float64)
        return dict(zip(terms, (1 + spread * (2 * drawn - 1)).tolist(), strict=True))

    def parts(self) -> Mapping[str, Remembering]:
        return {} if self._recipe.renew else {"generator": self._generator}
