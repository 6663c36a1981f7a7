"""Classifier × images → verdicts, under a threat."""

from ferd_eval.attacks.base import Attack, Batch, Passes, Problem, Verdicts
from ferd_eval.attacks.freezing import frozen
from ferd_eval.attacks.gradient import CW, FGSM, PGD, TargetedPGD
from ferd_eval.attacks.noise import Noise
from ferd_eval.attacks.suite import (
    DEFAULT_ATTACKS,
    GROUPS,
    PRESETS,
    Clean,
    PlannedAttack,
    plan_attacks,
)
from ferd_eval.attacks.threat import Threat

__all__ = [
    "CW",
    "DEFAULT_ATTACKS",
    "FGSM",
    "GROUPS",
    "PGD",
    "PRESETS",
    "Attack",
    "Batch",
    "Clean",
    "Noise",
    "Passes",
    "PlannedAttack",
    "Problem",
    "TargetedPGD",
    "Threat",
    "Verdicts",
    "frozen",
    "plan_attacks",
]
