"""Readings of FERD, and its ablations, as the fields that they set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferd_train.synthesis.components.bottleneck import PAPER, RELEASE, Bottleneck

#: ``ferd``: this project's choices, made on held-out training images (docs/decisions/0007);
#: ``paper``: arXiv v2; ``release``: the authors' code; ``none``: another method.
VARIANTS = ("ferd", "paper", "release", "none")

_OWN = Bottleneck()

#: Field → its value in `ferd`, `paper` and `release`; None leaves it.
_VALUES: Mapping[str, tuple[Any, Any, Any]] = {
    "synthesis.bottleneck.noise": (_OWN.noise, PAPER.noise, RELEASE.noise),
    "synthesis.bottleneck.regulariser": (_OWN.regulariser, PAPER.regulariser, RELEASE.regulariser),
    "synthesis.bottleneck.mask_scale": (_OWN.mask_scale, PAPER.mask_scale, RELEASE.mask_scale),
    "synthesis.bottleneck.mask_maximum": (
        _OWN.mask_maximum, PAPER.mask_maximum, RELEASE.mask_maximum,
    ),
    "synthesis.adversarial": ("kl", "kl", "decoupled"),
    "synthesis.match_student": (False, True, False),
    "reweighting.strategy": ("margin-softmax", "margin-softmax", "margin-minmax"),
    "reweighting.temperature": (4.0, 1.0, None),
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
    column = VARIANTS.index(variant)
    # As many generator steps as student steps in the paper, half as many in the release.
    steps = (None, student_steps, max(1, student_steps // 2))[column]
    values = {name: of_variants[column] for name, of_variants in _VALUES.items()}
    values["synthesis.steps"] = steps
    return {name: value for name, value in values.items() if value is not None}


_NO_FAE = {"synthesis.lambda_uni": 0.0}
_NO_UTAE = {"loss.gamma": 0.0}

#: The switches of the paper's Table 3: the fields that switch a part off.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "no-reweight": {"reweighting.strategy": "uniform"},
    "no-fae": _NO_FAE,
    "no-utae": _NO_UTAE,
    "no-fae-no-utae": {**_NO_FAE, **_NO_UTAE},
}
