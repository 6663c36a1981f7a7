"""FastDFKD: a generator that learns, over rounds, to be quickly adapted to new images.

Fang et al., "Up to 100× faster data-free knowledge distillation", AAAI 2022, and its public code. A
round is an epoch here. B batch, C channels, H × W pixels, K classes, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from ferd_train.config.checks import Count, CountFromZero, NotNegative, OneOf, Positive, Share
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic, require_alone
from ferd_train.synthesis.components.bn_statistics import MomentumMatching, watched
from ferd_train.synthesis.components.descent import BETAS, descend_generator
from ferd_train.synthesis.components.generator import Generator, run_generator, usual_weights
from ferd_train.synthesis.components.generator_losses import agreeing_minus_kl, one_hot
from ferd_train.training.seams import Remembering
from ferd_train.training.seeds import Randomness

# The authors' code multiplies Reptile's step by this; Adam removes most of it again.
_REPTILE = 67.0
# Of the renewed weights.
_SPREAD = 0.02


@dataclass(frozen=True)
class FastRecipe(SynthesisRecipe):
    """A meta-learnt generator. Coefficients are the authors' for ResNet teachers.

    (For WideResNets their script has 1.1, 10 and 0.4.) Deviation: no normaliser, so images are the
    generator's sigmoid. Rounds are absolute, where theirs follow the warm-up: another `warmup` or
    `epochs` asks for other `competes_from` and `renewed_at`.

    Attributes:
        steps: k, of the clone, a round; the authors have 2, 5 and 10.
        lr: Adam's for the clone; k times that for the generator. 5e-3, 3e-3 and 2e-3.
        latent_lr: Adam's for the latents; 0.015, 0.01 and 0.01.
        lambda_adv: weight of −KL(p_T ‖ p_S) of the images on which both see the same class.
        lambda_bn: weight of the statistics' distance.
        lambda_oh: weight of the cross-entropy to the class asked for.
        momentum: of the statistics over rounds.
        meta: how the generator learns from a round: ``maml`` (first-order: the sum of the clone's
            gradients, the authors' default), ``reptile`` (where the clone went), or ``none`` (it is
            trained itself, without a clone).
        competes_from: first round, counted from 1, with L_adv.
        renewed_at: round, counted from 1, before which the first layer and its batch norm are drawn
            anew; 0 for never.
    """

    full_cost: ClassVar[Mapping[str, Any]] = {"synthesis.competes_from": 1}
    method: str = field(default="fast", init=False)
    steps: Count = 5
    lr: Positive = 3e-3
    latent_lr: Positive = 0.01
    latent: Count = 256
    width: Count = 64
    lambda_adv: NotNegative = 1.33
    lambda_bn: NotNegative = 10.0
    lambda_oh: NotNegative = 0.5
    momentum: Share = 0.9
    meta: Annotated[str, OneOf(METAS)] = "maml"
    competes_from: Count = 20
    renewed_at: CountFromZero = 140

    @property
    def term_weights(self) -> Mapping[str, float]:
        return {"adv": self.lambda_adv, "bn": self.lambda_bn, "oh": self.lambda_oh}

    def build(self, setting: Setting) -> Fast:
        return Fast(self, setting)


class Fast(Synthesis):
    """Clones its generator each round, and learns from how the clone did.

    Raises:
        UserError: the teacher has no batch normalisation to match, or several processes train.
    """

    def __init__(self, recipe: FastRecipe, setting: Setting) -> None:
        super().__init__(setting)
        require_alone(recipe, setting)
        self._recipe = recipe
        self._generator, self._clone = (
            run_generator(setting, recipe.latent, recipe.width, usual_weights) for _ in range(2)
        )
        self._outer = torch.optim.Adam(
            self._generator.parameters(), lr=recipe.lr * recipe.steps, betas=BETAS
        )
        self._matching = None
        if recipe.lambda_bn:
            self._matching = MomentumMatching(setting.teacher, recipe.momentum)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """One round: adapt a clone and the latents in k steps, and learn from it."""
        recipe = self._recipe
        if randomness.epoch == recipe.renewed_at:
            renew_first_layer(self._generator, randomness.stream("renewal"))
        learner, meta = self._generator, METAS[recipe.meta]
        if meta is not None:
            learner = self._clone
            learner.load_state_dict(self._generator.state_dict())
        competes = randomness.epoch >= recipe.competes_from
        slopes = [torch.zeros_like(each) for each in learner.parameters()]

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            return recipe.scored(self.terms(seen_BCHW, labels_B, competes=competes))

        def add_slopes(loss: Tensor) -> None:
            for slope, parameter in zip(slopes, learner.parameters(), strict=True):
                assert parameter.grad is not None
                slope += parameter.grad

        made = descend_generator(
            self.setting,
            learner,
            recipe.steps,
            labels_B,
            randomness,
            score,
            lr=recipe.lr,
            latent_lr=recipe.latent_lr,
            parts={"learner": learner, "slopes": slopes},
            after_step=add_slopes,
        )
        if meta is not None:
            self._learn(meta(slopes, self._generator, learner))
        if self._matching is not None:
            self._matching.end_round()
        return made

    def terms(self, seen_BCHW: Tensor, labels_B: Tensor, *, competes: bool) -> dict[str, Tensor]:
        """The terms that are on, by name, unweighted; with L_adv if the round `competes`."""
        recipe, setting = self._recipe, self.setting
        with watched(self._matching) as distances:
            teacher_BK = setting.teacher(seen_BCHW)
        terms = recipe.on(
            bn=lambda: torch.stack(distances).sum(),
            oh=lambda: one_hot(teacher_BK, labels_B),
        )
        if competes:
            terms |= recipe.on(
                adv=lambda: agreeing_minus_kl(teacher_BK, setting.student(seen_BCHW))
            )
        return terms

    def _learn(self, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(self._generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._outer.step()
        self._outer.zero_grad(set_to_none=True)

    def parts(self) -> Mapping[str, Remembering]:
        matching = {} if self._matching is None else {"matching": self._matching}
        return {"generator": self._generator, "outer": self._outer, **matching}


@torch.no_grad()
def renew_first_layer(generator: Generator, stream: torch.Generator) -> None:
    """Draw the linear layer and its batch norm anew: weights N(0, 0.02²), biases 0.

    The batch norm's weights are centred at 0, not at 1 as at the start: so the authors' code.
    """
    norm = next(each for each in generator.layers if isinstance(each, nn.BatchNorm2d))
    for layer in (generator.layers[0], norm):
        assert isinstance(layer, nn.Linear | nn.BatchNorm2d)
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=stream) * _SPREAD)
        layer.bias.zero_()


def _reptile(slopes: list[Tensor], generator: Generator, clone: Generator) -> list[Tensor]:
    pairs = zip(generator.parameters(), clone.parameters(), strict=True)
    return [_REPTILE * (own.detach() - theirs.detach()) for own, theirs in pairs]


#: From the sum of a clone's gradients, the generator and the clone to the generator's gradients.
METAS: Mapping[str, Callable[[list[Tensor], Generator, Generator], list[Tensor]] | None] = {
    "maml": lambda slopes, generator, clone: slopes,
    "reptile": _reptile,
    "none": None,
}
