"""Classifier × images → verdicts, under a threat. Torch loads with the first name that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferd_eval._lazy import lazily
from ferd_eval.attacks.registry import DEFAULT_ATTACKS, GROUPS, PRESETS

if TYPE_CHECKING:
    from ferd_eval.attacks.autoattack.batched_search import Search, SlotState
    from ferd_eval.attacks.autoattack.cascade import Cascade, draw_sample
    from ferd_eval.attacks.autoattack.ensemble import SearchAttack, alone, audited
    from ferd_eval.attacks.base import Attack, Verdicts
    from ferd_eval.attacks.clean import Clean
    from ferd_eval.attacks.gradient import CW, FGSM, PGD, TargetedPGD
    from ferd_eval.attacks.keyed_rng import KeyedRng
    from ferd_eval.attacks.passes import Passes
    from ferd_eval.attacks.plan import PlannedAttack, make_attack, plan_attacks
    from ferd_eval.attacks.problem import Batch, Perturbed, Problem
    from ferd_eval.attacks.search_network import SearchNetwork
    from ferd_eval.attacks.threat import Threat
    from ferd_eval.models.frozen import frozen

__all__ = [
    "CW", "DEFAULT_ATTACKS", "FGSM", "GROUPS", "PGD", "PRESETS", "Attack", "Batch", "Cascade",
    "Clean", "KeyedRng", "Passes", "Perturbed", "PlannedAttack", "Problem", "Search",
    "SearchAttack", "SearchNetwork", "SlotState", "TargetedPGD", "Threat", "Verdicts", "alone",
    "audited", "draw_sample", "frozen", "make_attack", "plan_attacks",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "attacks.autoattack.batched_search": "Search SlotState",
        "attacks.autoattack.cascade": "Cascade draw_sample",
        "attacks.autoattack.ensemble": "SearchAttack alone audited",
        "attacks.base": "Attack Verdicts",
        "attacks.clean": "Clean",
        "attacks.gradient": "CW FGSM PGD TargetedPGD",
        "attacks.keyed_rng": "KeyedRng",
        "attacks.passes": "Passes",
        "attacks.plan": "PlannedAttack make_attack plan_attacks",
        "attacks.problem": "Batch Perturbed Problem",
        "attacks.search_network": "SearchNetwork",
        "attacks.threat": "Threat",
        "models.frozen": "frozen",
    },
)
