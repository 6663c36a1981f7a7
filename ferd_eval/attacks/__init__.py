"""Classifier × images → verdicts, under a threat."""

from ferd_eval.attacks.autoattack.batched_search import Search, SlotState
from ferd_eval.attacks.autoattack.cascade import Cascade, draw_sample
from ferd_eval.attacks.autoattack.ensemble import SearchAttack, alone, audited, autoattack
from ferd_eval.attacks.base import Attack, Batch, Perturbed, Problem, Verdicts
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.gradient import CW, FGSM, PGD, TargetedPGD
from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.passes import Passes
from ferd_eval.attacks.plan import DEFAULT_ATTACKS, GROUPS, PRESETS, PlannedAttack, plan_attacks
from ferd_eval.attacks.threat import Threat
from ferd_eval.models.frozen import frozen

__all__ = [
    "CW",
    "DEFAULT_ATTACKS",
    "FGSM",
    "GROUPS",
    "PGD",
    "PRESETS",
    "Attack",
    "Batch",
    "Cascade",
    "Clean",
    "KeyedRng",
    "Passes",
    "Perturbed",
    "PlannedAttack",
    "Problem",
    "Search",
    "SearchAttack",
    "SlotState",
    "TargetedPGD",
    "Threat",
    "Verdicts",
    "alone",
    "audited",
    "autoattack",
    "draw_sample",
    "frozen",
    "plan_attacks",
]
