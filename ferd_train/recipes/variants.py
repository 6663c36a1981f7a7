"""Readings of FERD, and its ablations, as the fields that they set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferd_train.synthesis.components.bottleneck import PAPER, RELEASE, Bottleneck

#: ``ferd``: this project's own, by one seed (docs/why-ferd-falls-short.md);
#: ``paper``: arXiv v2; ``release``: the authors' code; ``release-2025-05``: the same as it was in
#: May 2025, with classes weighed by clean cross-entropy; ``none``: another method.
VARIANTS = ("ferd", "paper", "release", "release-2025-05", "none")

_OF_MAY = "-2025-05"
_OWN = Bottleneck()

#: Field → its value in `ferd`, `paper` and both of `release`; None leaves it.
_VALUES: Mapping[str, tuple[Any, Any, Any]] = {
    "labels": ("teacher", "asked", "asked"),
    "synthesis.renew": (False, True, True),
    "synthesis.attacked": (0.5, 0.0, 0.0),
    "synthesis.inverted": (1 / 3, 0.0, 0.0),
    "synthesis.spread": (0.0, 0.0, 0.0),
    "synthesis.lambda_oh": (20.0, 1.0, 1.0),
    "synthesis.lambda_uni": (0.0, 5.0, 5.0),
    "synthesis.bottleneck.mask_factor": (1.0, 1.0, 1.0),
    "synthesis.bottleneck.mask_share": (0.0, 0.0, 0.0),
    "synthesis.bottleneck.noise": (_OWN.noise, PAPER.noise, RELEASE.noise),
    "synthesis.bottleneck.regulariser": (_OWN.regulariser, PAPER.regulariser, RELEASE.regulariser),
    "synthesis.bottleneck.mask_scale": (_OWN.mask_scale, PAPER.mask_scale, RELEASE.mask_scale),
    "synthesis.bottleneck.mask_maximum": (
        _OWN.mask_maximum, PAPER.mask_maximum, RELEASE.mask_maximum,
    ),
    "synthesis.adversarial": ("kl", "kl", "decoupled"),
    "synthesis.match_student": (False, True, False),
    "reweighting.strategy": ("uniform", "margin-softmax", "margin-minmax"),
    "reweighting.temperature": (1.0, 1.0, None),
    "reweighting.cap": (4.0, 0.0, 0.0),
    "reweighting.smoothing": (0.0, 0.0, 0.0),
    "reweighting.measured_on": ("kept", "kept", "last"),
    "loss.network": ("student", "teacher", "student"),
    "loss.gamma": (0.5, 0.5, 0.0),
    "loss.divergence": ("kl", "kl", "soft-cross-entropy"),
    "loss.clean_weight": (0.5, 5 / 6, 5 / 6),
    "loss.adversarial_weight": (0.5, 1 / 6, 1 / 6),
    "held_out.share": (0.1, 0.0, 0.0),
}  # fmt: skip


def variant_fields(variant: str, student_steps: int) -> dict[str, Any]:
    """Fields that a variant sets; `student_steps` are those of an epoch."""
    if variant == "none":
        return {}
    column = ("ferd", "paper", "release").index(variant.removesuffix(_OF_MAY))
    # As many generator steps as student steps in the paper, half as many in the release.
    steps = (None, student_steps, max(1, student_steps // 2))[column]
    values = {name: of_variants[column] for name, of_variants in _VALUES.items()}
    values["synthesis.steps"] = steps
    if variant.endswith(_OF_MAY):
        values["reweighting.strategy"] = "clean-loss-minmax"
    return {name: value for name, value in values.items() if value is not None}


_NO_FAE = {"synthesis.lambda_uni": 0.0}
_NO_UTAE = {"loss.gamma": 0.0}

#: Fields that switch a part off: those of the paper's Table 3, then those of the variant `ferd`.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "no-reweight": {"reweighting.strategy": "uniform"},
    "no-fae": _NO_FAE,
    "no-utae": _NO_UTAE,
    "no-fae-no-utae": {**_NO_FAE, **_NO_UTAE},
    "no-lasting": {"synthesis.renew": True},
    "no-attacked": {"synthesis.attacked": 0.0},
    "no-inversion": {"synthesis.inverted": 0.0},
    "no-class-first": {"synthesis.lambda_oh": 1.0, "synthesis.lambda_uni": 5.0},
    "no-teacher-labels": {"labels": "asked"},
}
