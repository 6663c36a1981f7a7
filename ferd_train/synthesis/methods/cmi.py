"""CMI: a generator reset each round, and images that differ from all made before.

Fang et al., "Contrastive model inversion for data-free knowledge distillation", IJCAI 2021, and its
public code. A round is an epoch here. B batch, C channels, H × W pixels, K classes, Z latent
numbers, D numbers in a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_eval.attacks import KeyedRng
from ferd_train.config.checks import Count, NotNegative, OneOf, Positive
from ferd_train.config.unfit import UnfitError
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic, require_alone
from ferd_train.synthesis.components.bn_statistics import (
    BatchNormMatching,
    layers_with_statistics,
    watch_inputs,
    watched,
)
from ferd_train.synthesis.components.contrastive import Head, Ring, contrast, random_parts
from ferd_train.synthesis.components.descent import descend_generator
from ferd_train.synthesis.components.generator import run_generator
from ferd_train.synthesis.components.generator_losses import agreeing_minus_kl, one_hot
from ferd_train.training.seeds import Randomness

#: Teacher features that images are told apart by.
FEATURES = ("all", "stages")


@dataclass(frozen=True)
class CMIRecipe(SynthesisRecipe):
    """Model inversion with contrast; the constants of the public script for CIFAR-10.

    Deviations: no normaliser, so images are the generator's sigmoid; ``stages`` for `features` (for
    WideResNet-34-10 ``all`` is 11 216 numbers, and the ring 3.4 GiB).

    Attributes:
        steps: of Adam on a round's generator and latents.
        lr: of both, and of the head's Adam, which goes on over rounds.
        lambda_adv: weight of −KL(p_T ‖ p_S) of the images on which both see the same class.
        lambda_bn: weight of L_bn over the teacher's layers.
        lambda_oh: weight of the cross-entropy to the class asked for.
        lambda_cr: weight of the contrast; with 0 nothing is remembered.
        temperature: of the contrast.
        features: means over the pixels of the inputs of ``all`` batch norms (the public code), or
            of the last of each width, ``stages``: their ends in WideResNets and PreActResNets.
        projected: numbers that the head leaves of them.
        remembered: images whose features are kept.
        negatives: of them, compared with in each step.
    """

    method: str = field(default="cmi", init=False)
    steps: Count = 200
    lr: Positive = 1e-3
    latent: Count = 256
    width: Count = 64
    lambda_adv: NotNegative = 0.5
    lambda_bn: NotNegative = 1.0
    lambda_oh: NotNegative = 1.0
    lambda_cr: NotNegative = 0.8
    temperature: Positive = 0.2
    features: Annotated[str, OneOf(FEATURES)] = "stages"
    projected: Count = 256
    remembered: Count = 40960
    negatives: Count = 4096

    @property
    def term_weights(self) -> Mapping[str, float]:
        return {
            "adv": self.lambda_adv, "bn": self.lambda_bn,
            "oh": self.lambda_oh, "cr": self.lambda_cr,
        }  # fmt: skip

    def build(self, setting: Setting) -> CMI:
        return CMI(self, setting)


class CMI(Synthesis):
    """Inverts the teacher in each round, from a new generator.

    Raises:
        UserError: the teacher has no batch normalisation, or several processes train.
    """

    def __init__(self, recipe: CMIRecipe, setting: Setting) -> None:
        super().__init__(setting)
        require_alone(recipe, setting)
        self._recipe = recipe
        self._matching = BatchNormMatching(setting.teacher) if recipe.lambda_bn else None
        self._generator = run_generator(setting, recipe.latent, recipe.width)
        self._contrast = Contrast(recipe, setting) if recipe.lambda_cr else None

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """One round; images and features of the step with the lowest loss are kept."""
        recipe, contrast = self._recipe, self._contrast
        self._generator.reset(randomness.stream("generator"))

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            return recipe.scored(self.terms(x_BCHW, seen_BCHW, labels_B, randomness, step))

        made = descend_generator(
            self.setting,
            self._generator,
            recipe.steps,
            labels_B,
            randomness,
            score,
            lr=recipe.lr,
            parts={"generator": self._generator},
            after_step=contrast.step if contrast else lambda loss: None,
        )
        if contrast is not None:
            contrast.end_round()
        return made

    def terms(
        self,
        x_BCHW: Tensor,
        seen_BCHW: Tensor,
        labels_B: Tensor,
        randomness: Randomness,
        step: int,
    ) -> dict[str, Tensor]:
        """The terms that are on, by name, unweighted; `seen_BCHW` are the images' global views."""
        recipe, setting = self._recipe, self.setting
        watch = self._contrast.watch() if self._contrast else nullcontext([])
        with watch as features, watched(self._matching) as distances:
            teacher_BK = setting.teacher(seen_BCHW)
        terms = recipe.on(
            bn=lambda: torch.stack(distances).sum(),
            oh=lambda: one_hot(teacher_BK, labels_B),
            adv=lambda: agreeing_minus_kl(teacher_BK, setting.student(seen_BCHW)),
        )
        if self._contrast is not None:
            noise = KeyedRng(randomness.seed("parts", step), "parts", setting.share.places(x_BCHW))
            parts_BCHW = random_parts(x_BCHW, noise)
            stream = torch.Generator().manual_seed(randomness.seed("negatives", step))
            terms["cr"] = self._contrast(parts_BCHW, torch.cat(features, dim=1), stream)
        return terms

    def state(self) -> dict[str, Any]:
        return {} if self._contrast is None else self._contrast.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        if self._contrast is not None:
            self._contrast.load_state(state)


class Contrast:
    """Head, ring, and the features of the round's best step."""

    def __init__(self, recipe: CMIRecipe, setting: Setting) -> None:
        self._recipe, self._setting = recipe, setting
        self._layers = _layers(setting.teacher, recipe.features)
        features = sum(layer.num_features for layer in self._layers)
        seed = Randomness(setting.seed, 0).seed("head")
        self._head = Head(features, recipe.projected, seed).to(setting.device)
        self._adam = torch.optim.Adam(self._head.parameters(), lr=recipe.lr)
        self._ring = Ring(recipe.remembered, features)
        self._lowest = torch.full((), torch.inf)
        self._latest_B2D = self._best_B2D = torch.zeros(0, 2 * features)

    def watch(self) -> AbstractContextManager[list[Tensor]]:
        """Collect, from each layer, the means over the pixels of its input, B×channels."""
        return watch_inputs(self._layers, lambda layer, input_BC: input_BC.flatten(2).mean(dim=2))

    def __call__(self, parts_BCHW: Tensor, global_BD: Tensor, stream: torch.Generator) -> Tensor:
        """L_cr of a step, given the features of the global views."""
        with self.watch() as features:
            self._setting.teacher(parts_BCHW)
        local_BD = torch.cat(features, dim=1)
        self._latest_B2D = torch.cat([local_BD, global_BD], dim=1).detach()
        cached_R2D = self._ring.draw(self._recipe.negatives, stream, self._setting.device)
        return contrast(self._head, local_BD, global_BD, cached_R2D, self._recipe.temperature)

    def step(self, loss: Tensor) -> None:
        """Keep the latest features if the loss is the round's lowest; one step of the head."""
        if not len(self._best_B2D) or bool(loss < self._lowest):
            self._lowest, self._best_B2D = loss, self._latest_B2D
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def end_round(self) -> None:
        self._ring.add(self._best_B2D)
        self._lowest, self._best_B2D = torch.full((), torch.inf), self._best_B2D[:0]

    def state(self) -> dict[str, Any]:
        return {
            "head": self._head.state_dict(),
            "adam": self._adam.state_dict(),
            "ring": self._ring.state_dict(),
            "lowest": self._lowest,
            "best": self._best_B2D,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._head.load_state_dict(state["head"])
        self._adam.load_state_dict(state["adam"])
        self._ring.load_state_dict(state["ring"])
        device = self._setting.device
        # Older states lack these, as they lie between two rounds.
        self._lowest = state.get("lowest", self._lowest).to(device)
        self._best_B2D = state.get("best", self._best_B2D).to(device)


def _layers(teacher: nn.Module, which: str) -> list[_BatchNorm]:
    layers = layers_with_statistics(teacher)
    if not layers:
        raise UnfitError(
            ["the teacher has no batch normalisation, whose inputs tell images apart"],
            {"synthesis.lambda_cr": "0"},
        )
    if which == "all":
        return layers
    last_of_width = {layer.num_features: layer for layer in layers}
    return list(last_of_width.values())
