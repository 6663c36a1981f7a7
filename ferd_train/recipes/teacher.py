"""Recipe of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from ferd_train.config.checks import Count, CountFromZero, NotNegative, OneOf, Positive, Seed, Share
from ferd_train.config.recipe import Recipe
from ferd_train.training.precision import PRECISIONS

#: Names of the losses; `ferd_train.adversarial_training.losses` makes them.
LOSS_NAMES = ("pgd-at", "trades")


@dataclass(frozen=True)
class TeacherRecipe(Recipe):
    """Adversarial training of a network from data.

    Attributes:
        dataset: name for `ferd_eval.load_dataset`; its training split is used.
        arch: registered architecture.
        loss: ``"pgd-at"`` (Madry et al., ICLR 2018) or ``"trades"`` (Zhang et al., ICML 2019).
        eps: radius of the L∞ ball in the pixel range [0, 1].
        inner_steps: signed gradient steps of the inner attack.
        inner_step: length of one, in the pixel range.
        trades_beta: weight of the robust term of TRADES; unused by PGD-AT.
        epochs: passes over the training part.
        batch_size: images per optimiser step.
        lr: peak of the one-cycle schedule (SGD with Nesterov momentum).
        momentum: of SGD.
        weight_decay: of SGD, on all parameters.
        crop_padding: random-crop padding in pixels; 0 for no cropping.
        flip: mirror images at random.
        ema_decay: decay per step of the averaged weights, which are what is saved.
        validation_per_class: training images of each class held out, the last in file order.
        precision: of the training steps: float32, tf32 or bfloat16. Validation is always exact.
        seed: of initial weights, order, augmentation and attacks.
    """

    dataset: str
    arch: str
    eps: Fraction
    inner_step: Fraction
    loss: Annotated[str, OneOf(LOSS_NAMES)] = "pgd-at"
    inner_steps: Count = 5
    trades_beta: NotNegative = 6.0
    epochs: Count = 10
    batch_size: Count = 128
    lr: Positive = 0.2
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    crop_padding: CountFromZero = 0
    flip: bool = False
    ema_decay: Share = 0.995
    validation_per_class: Count = 100
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    seed: Seed = 0
