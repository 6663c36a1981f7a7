"""DeepInversion: pixels are optimised to fit the teacher's statistics and classes.

Yin et al., "Dreaming to distill", CVPR 2020, with the adaptive term of its equation 8; constants of
the public reimplementation that FERD's authors ship (Fang et al., "datafree"). B batch, C channels,
H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from ferd_eval.attacks import Passes, frozen
from ferd_eval.attacks.pixel_bounds import distance_inside, inside
from ferd_train.config.checks import Count, NotNegative, OneOf, Positive, ShareOrAll
from ferd_train.losses.divergence import jensen_shannon
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.attacked_views import attacking
from ferd_train.synthesis.components.bn_statistics import BatchNormMatching, watched
from ferd_train.synthesis.components.descent import BestBatch, LastBatch, descend
from ferd_train.synthesis.components.generator_losses import one_hot
from ferd_train.training.folding import FoldedNetwork
from ferd_train.training.seeds import Randomness

#: Which iterate goes into the bank.
KEPT = ("last", "best")

# Adam's, as in the public code.
_BETAS = (0.5, 0.99)
# Flattens both predictions where they are compared.
_TEMPERATURE = 3.0
# Grey, and a spread that few pixels leave [0, 1] by.
_CENTRE, _SPREAD = 0.5, 0.25


@dataclass(frozen=True)
class DeepInvRecipe(SynthesisRecipe):
    """Pixels optimised without a generator.

    Deviations, most because networks here take [0, 1] and no normalised pixels: images begin at
    0.5 + 0.25·N(0, 1) in place of N(0, 1), are kept within [0, 1], and move by a quarter of the
    public code's learning rate, 0.1 in units of normalised pixels. The Jensen–Shannon divergence is
    the paper's and exact; the public code clamps probabilities to [0.01, 0.99] and swaps the
    arguments of both KL, which weighs disagreement up to twice as much. It also takes 0.001 times
    the student's own L_bn away, which the paper does not have.

    Attributes:
        steps: of Adam, an epoch.
        lr: Adam's.
        lambda_adv: weight of 1 − JS(p_T, p_S) at temperature 3.
        lambda_bn: weight of L_bn over the teacher's layers.
        lambda_oh: weight of the cross-entropy to the class asked for.
        lambda_tv: weight of total variation, the mean of |differences of neighbours| along rows and
            columns; FERD's authors have 0.
        lambda_l2: weight of the mean norm of an image.
        attacked: share of a batch that is scored after one step of FGSM against the teacher; this
            project's, see `attacked_views`.
        jitter: images are rolled by up to this share of their side, and mirrored by a coin.
        keep: the ``last`` iterate that was scored, as the public code does but for a step (its best
            is the tensor that it goes on to change), or the ``best``.
    """

    method: str = field(default="deepinv", init=False)
    steps: Count = 1000
    lr: Positive = 0.025
    lambda_adv: NotNegative = 1.0
    lambda_bn: NotNegative = 10.0
    lambda_oh: NotNegative = 1.0
    lambda_tv: NotNegative = 0.0
    lambda_l2: NotNegative = 0.0
    attacked: ShareOrAll = 0.0
    jitter: NotNegative = 0.125
    keep: Annotated[str, OneOf(KEPT)] = "last"

    @property
    def term_weights(self) -> Mapping[str, float]:
        return {
            "adv": self.lambda_adv, "bn": self.lambda_bn, "oh": self.lambda_oh,
            "tv": self.lambda_tv, "l2": self.lambda_l2,
        }  # fmt: skip

    def build(self, setting: Setting) -> DeepInv:
        return DeepInv(self, setting)


class DeepInv(Synthesis):
    """Makes images for given classes from noise, anew each epoch.

    Raises:
        UserError: the teacher has no batch normalisation to match.
    """

    def __init__(self, recipe: DeepInvRecipe, setting: Setting) -> None:
        super().__init__(setting)
        self._recipe = recipe
        self._matching = BatchNormMatching(setting.teacher) if recipe.lambda_bn else None
        self._still_teacher = FoldedNetwork(setting.teacher, setting.image_shape)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        recipe, setting = self._recipe, self.setting
        shape = (len(labels_B), *setting.image_shape)
        drawn_BCHW = torch.randn(shape, generator=randomness.stream("pixels"))
        drawn_BCHW = setting.share.own(drawn_BCHW)
        x_BCHW = (_CENTRE + _SPREAD * drawn_BCHW).clamp(0, 1).to(setting.device).requires_grad_()
        views = randomness.stream("jitter")
        # Pixels are clamped after each step: a teacher that clamps would hold them there.
        with frozen(setting.teacher):
            distance = distance_inside(setting.teacher, x_BCHW, Passes())

        def images(step: int) -> tuple[Tensor, Tensor]:
            return x_BCHW, jittered(x_BCHW, recipe.jitter, views)

        attack = attacking(setting, self._still_teacher, labels_B, recipe.attacked)

        def score(x_BCHW: Tensor, seen_BCHW: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
            seen_BCHW = attack(inside(seen_BCHW, distance))
            return recipe.scored(self.terms(seen_BCHW, x_BCHW, labels_B))

        @torch.no_grad()
        def clamp(loss: Tensor) -> None:
            x_BCHW.clamp_(0, 1)

        return descend(
            setting,
            recipe.steps,
            labels_B,
            torch.optim.Adam([x_BCHW], lr=recipe.lr, betas=_BETAS),
            images,
            score,
            parts={"pixels": x_BCHW, "views": views},
            best=(LastBatch if recipe.keep == "last" else BestBatch)(setting.device),
            after_step=clamp,
        )

    def terms(self, seen_BCHW: Tensor, x_BCHW: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        """The terms that are on, by name, unweighted, of images and of how networks see them."""
        recipe, setting = self._recipe, self.setting
        gather = setting.share.gather
        with watched(self._matching, setting.share) as distances:
            teacher_BK = setting.teacher(seen_BCHW)
        teacher_BK = gather(teacher_BK)
        return recipe.on(
            bn=lambda: torch.stack(distances).sum(),
            adv=lambda: disagreement(teacher_BK, gather(setting.student(seen_BCHW))),
            oh=lambda: one_hot(teacher_BK, labels_B),
            tv=lambda: total_variation(gather(x_BCHW)),
            l2=lambda: torch.linalg.vector_norm(gather(x_BCHW).flatten(1), dim=1).mean(),
        )


def disagreement(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """1 − JS(p_T, p_S) at temperature 3, the batch mean."""
    return 1 - jensen_shannon(teacher_BK / _TEMPERATURE, student_BK / _TEMPERATURE).mean()


def jittered(x_BCHW: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """All images rolled alike by up to a share of their sides, and mirrored alike or not."""
    limits = [int(share * side) for side in x_BCHW.shape[2:]]
    shifts = [int(torch.randint(-most, most + 1, (), generator=generator)) for most in limits]
    x_BCHW = torch.roll(x_BCHW, shifts, (2, 3))
    mirrored = bool(torch.randint(2, (), generator=generator))
    return x_BCHW.flip(3) if mirrored else x_BCHW


def total_variation(x_BCHW: Tensor) -> Tensor:
    """Mean |difference| of neighbours along columns plus that along rows."""
    down, right = (x_BCHW.diff(dim=axis).abs().mean() for axis in (2, 3))
    return down + right
