"""Recipes of FastDFKD."""

from __future__ import annotations

from ferd_train.recipes.scales import cifar10_scale, laboratory
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.methods.fast import FastRecipe


def fast_lab() -> StudentRecipe:
    """FastDFKD on a laptop, the student and the steps of `ferd-lab`.

    Source: this project. Shrunk against the source: 20 rounds in place of 220, so 10 steps a round
    with the authors' rates for 10; L_adv from the last round of the warm-up on, as there, and the
    first layer anew before the fourteenth, after the same share of the run; a generator of a
    quarter of the width.
    """
    return laboratory(
        FastRecipe(steps=10, lr=2e-3, latent_lr=0.01, width=16, competes_from=2, renewed_at=14)
    )


def fast_cifar10() -> StudentRecipe:
    """FastDFKD for CIFAR-10, made robust by RSLAD's loss as in FERD's tables.

    Source: Fang et al., AAAI 2022 and their code (five steps a round, coefficients for WideResNet
    teachers, first-order MAML, L_adv from round 20 on); FERD, arXiv 2509.20793, for the student
    (220 epochs, batches of 256, 400 steps, λ 5/6 clean and 1/6 attacked), whose settings for this
    method are not public. The paper reports clean 72.2 (worst 57.8), PGD 54.7 (37.0),
    AutoAttack 33.2 (17.6). One GPU, not measured here.
    """
    return cifar10_scale(FastRecipe(lambda_adv=1.1, lambda_oh=0.4))
