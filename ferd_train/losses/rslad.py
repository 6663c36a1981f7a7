"""Robust soft labels: Zi et al., "Revisiting adversarial robustness distillation", ICCV 2021."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferd_train.losses.two_terms import TwoTermsRecipe


@dataclass(frozen=True)
class RSLADRecipe(TwoTermsRecipe):
    """KL from the teacher's clean prediction, on images and on KL-PGD's against the student.

    The authors weigh the attacked images by 5/6 and the clean ones by 1/6; FERD (arXiv 2509.20793,
    equation 11) the other way round, and its baselines perhaps too. Both terms are means over the
    batch, where the authors' code takes means over images and classes: a tenth, for ten classes.
    """

    name: str = field(default="rslad", init=False)
