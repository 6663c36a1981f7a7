"""FastDFKD: a generator that learns, over rounds, to be quickly adapted to new images.

Fang et al., "Up to 100× faster data-free knowledge distillation", AAAI 2022, and its public code. A
round is an epoch here. B batch, C channels, H × W pixels, K classes, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ferd_eval.attacks import frozen
from ferd_train.config.checks import (
    require_at_least,
    require_not_negative,
    require_one_of,
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
    require_alone,
)
from ferd_train.synthesis.components.bn_statistics import MomentumMatching
from ferd_train.synthesis.components.generator import Generator, usual_weights
from ferd_train.synthesis.components.generator_losses import agreeing_minus_kl, one_hot
from ferd_train.training.seams import Part
from ferd_train.training.seeds import Randomness

_BETAS = (0.5, 0.999)
# By which the authors' code multiplies what Reptile walks; Adam takes most of it out again.
_REPTILE = 67.0
# Of the weights that are drawn anew.
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
        latent: numbers in a latent.
        width: of the generator.
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
    steps: int = 5
    lr: float = 3e-3
    latent_lr: float = 0.01
    latent: int = 256
    width: int = 64
    lambda_adv: float = 1.33
    lambda_bn: float = 10.0
    lambda_oh: float = 0.5
    momentum: float = 0.9
    meta: str = "maml"
    competes_from: int = 20
    renewed_at: int = 140

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps", "latent", "width", "competes_from")
        require_at_least(self, 0, "renewed_at")
        require_positive(self, "lr", "latent_lr")
        require_not_negative(self, *self.names_of_weights)
        require_share(self, "momentum")
        require_one_of(self, "meta", METAS)
        self.require_any_weight()

    def build(self, setting: Setting) -> Fast:
        """The method."""
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
        self._generator, self._clone = (self._new_generator() for _ in range(2))
        self._outer = torch.optim.Adam(
            self._generator.parameters(), lr=recipe.lr * recipe.steps, betas=_BETAS
        )
        self._matching = None
        if recipe.lambda_bn:
            self._matching = MomentumMatching(setting.teacher, recipe.momentum)

    def _new_generator(self) -> Generator:
        """The same at each call."""
        stream = Randomness(self.setting.seed, 0).stream("generator")
        return Generator(
            self.setting.image_shape,
            stream,
            latent=self._recipe.latent,
            width=self._recipe.width,
            draw=usual_weights,
        ).to(self.setting.device)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """One round: adapt a clone and the latents in k steps, and learn from it."""
        recipe, setting = self._recipe, self.setting
        if randomness.epoch == recipe.renewed_at:
            renew_first_layer(self._generator, randomness.stream("renewal"))
        learner, meta = self._generator, METAS[recipe.meta]
        if meta is not None:
            learner = self._clone
            learner.load_state_dict(self._generator.state_dict())
        latents_BZ = learner.draw_latents(len(labels_B), randomness.stream("latents"))
        adam = torch.optim.Adam(
            [
                {"params": learner.parameters(), "lr": recipe.lr},
                {"params": [latents_BZ.requires_grad_()], "lr": recipe.latent_lr},
            ],
            betas=_BETAS,
        )
        best, competes = BestBatch(setting.device), randomness.epoch >= recipe.competes_from
        slopes = [torch.zeros_like(each) for each in learner.parameters()]
        parts: Mapping[str, Part] = {
            "learner": learner,
            "latents": latents_BZ,
            "adam": adam,
            "best": best,
            "slopes": slopes,
        }
        with frozen(setting.teacher), frozen(setting.student):
            for step in setting.seams.steps(IMAGE_STEP, recipe.steps, parts):
                x_BCHW = learner(latents_BZ)
                seen_BCHW = setting.augment(x_BCHW, randomness.seed("augment images", step + 1))
                terms = self.terms(seen_BCHW, labels_B, competes=competes)
                loss = recipe.weighted(terms)
                detached = {name: term.detach() for name, term in terms.items()}
                best.see(loss.detach(), x_BCHW.detach(), detached, step + 1)
                adam.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                for slope, parameter in zip(slopes, learner.parameters(), strict=True):
                    assert parameter.grad is not None
                    slope += parameter.grad
                adam.step()
        if meta is not None:
            self._learn(meta(slopes, self._generator, learner))
        if self._matching is not None:
            self._matching.end_round()
        return best.synthetic(labels_B, seen_BCHW.detach())

    def terms(self, seen_BCHW: Tensor, labels_B: Tensor, *, competes: bool) -> dict[str, Tensor]:
        """The terms that are on, by name, unweighted.

        Args:
            seen_BCHW: images as the networks see them.
            labels_B: classes asked for.
            competes: with L_adv.
        """
        recipe, setting = self._recipe, self.setting
        terms: dict[str, Tensor] = {}
        if self._matching is None:
            teacher_BK = setting.teacher(seen_BCHW)
        else:
            with self._matching.watch() as distances:
                teacher_BK = setting.teacher(seen_BCHW)
            terms["bn"] = torch.stack(distances).sum()
        if recipe.lambda_oh:
            terms["oh"] = one_hot(teacher_BK, labels_B)
        if recipe.lambda_adv and competes:
            terms["adv"] = agreeing_minus_kl(teacher_BK, setting.student(seen_BCHW))
        return terms

    def _learn(self, gradients: list[Tensor]) -> None:
        """One step of the generator."""
        for parameter, gradient in zip(self._generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._outer.step()
        self._outer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """The generator, its optimiser, and the statistics of the rounds so far."""
        return {
            "generator": self._generator.state_dict(),
            "outer": self._outer.state_dict(),
            "matching": None if self._matching is None else self._matching.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the next round."""
        self._generator.load_state_dict(state["generator"])
        self._outer.load_state_dict(state["outer"])
        if self._matching is not None:
            self._matching.load_state(state["matching"], self.setting.device)


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


def _maml(slopes: list[Tensor], generator: Generator, clone: Generator) -> list[Tensor]:
    return slopes


def _reptile(slopes: list[Tensor], generator: Generator, clone: Generator) -> list[Tensor]:
    pairs = zip(generator.parameters(), clone.parameters(), strict=True)
    return [_REPTILE * (own.detach() - theirs.detach()) for own, theirs in pairs]


#: From the sum of a clone's gradients, the generator and the clone to the generator's gradients.
METAS: Mapping[str, Callable[[list[Tensor], Generator, Generator], list[Tensor]] | None] = {
    "maml": _maml,
    "reptile": _reptile,
    "none": None,
}
