"""AutoAttack through its authors' own code, as a cross-check of ours.

The package is `pyautoattack`, or `autoattack` as it is installed from their repository. Both have
the same searches; their interfaces differ in a keyword.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from types import ModuleType

from torch import Tensor, nn

from ferd_eval.attacks.adapters.base import AdaptedSearch, isolated_globals, require_dlr
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.attacks.autoattack.ensemble import SearchAttack
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.plan import PlannedAttack
from ferd_eval.attacks.problem import Problem
from ferd_eval.errors import UserError

INSTALL = "pip install --no-deps pyautoattack"

#: Searches with the constants that are fixed in the package.
_STANDARD = (APGDCE(), APGDT(), FABT(), Square())

#: How each package calls the images per forward pass.
_BATCH_SIZE = {"pyautoattack": "batch_size", "autoattack": "bs"}

#: pyautoattack logs under this name; autoattack prints.
_LOGGER = "auto-attack"


def through_autoattack(
    plan: Sequence[PlannedAttack], num_classes: int
) -> tuple[PlannedAttack, ...]:
    """Replace AutoAttack and its searches by the authors'; other attacks stay ours.

    UserError: no package is installed, the plan has nothing for it, or it has no such attack for so
    many classes.
    """
    package = _installed().__name__
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:  # a folder on the path
        version = "unknown"
    through = tuple(_counterpart(each, num_classes, package, version) for each in plan)
    if through == tuple(plan):
        raise UserError(
            f"--engine autoattack has no part in {', '.join(each.id for each in plan)}. "
            "Give --attacks aa, or leave it out."
        )
    return through


def _counterpart(
    planned: PlannedAttack, num_classes: int, package: str, version: str
) -> PlannedAttack:
    def stand_in(attack: Attack) -> Attack:
        if not isinstance(attack, SearchAttack):
            return attack
        if attack != SearchAttack(attack.search) or attack.search not in _STANDARD:
            raise UserError(
                f"AutoAttack has no {planned.id}: its constants are fixed. Use --engine native, or "
                "torchattacks for aa-torchattacks."
            )
        return ThroughAutoattack(attack, package, version)

    whole: Attack | Cascade = planned.attack
    if isinstance(whole, Cascade):
        stood_in: Attack | Cascade = replace(
            whole,
            stages=tuple(map(stand_in, whole.stages)),
            audits=tuple(map(stand_in, whole.audits)),
        )
    else:
        stood_in = stand_in(whole)
    if stood_in == whole:
        return planned
    require_dlr(planned, num_classes)
    return replace(planned, attack=stood_in)


class ThroughAutoattack(AdaptedSearch):
    """Runs one search of the authors' AutoAttack "standard", with the checks that come before it.

    With fewer than ten classes the targeted searches would run out of targets and crash; they are
    told how many there are.
    """

    engine = "autoattack"

    def find(self, network: nn.Module, problem: Problem) -> Tensor:
        package = _installed()
        targets = self.original.targets_among(problem.clean_logits_BK.shape[1])
        with isolated_globals(_LOGGER):
            whole = package.AutoAttack(
                network,
                norm="Linf",
                eps=problem.threat.radius,
                seed=problem.noise.seed,
                version="standard",
                device=problem.x_BCHW.device,
            )
            whole.attacks_to_run = [self.family]
            whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = targets
            slots = {_BATCH_SIZE[package.__name__]: problem.slots}
            answer = whole.run_standard_evaluation(problem.x_BCHW, problem.labels_B, **slots)
        adv_PCHW: Tensor = answer[0] if isinstance(answer, tuple) else answer
        return adv_PCHW


def _installed() -> ModuleType:
    """The package, whichever is there."""
    try:
        import pyautoattack
    except ImportError as reason:
        try:
            import autoattack
        except ImportError:
            raise UserError(
                f"--engine autoattack needs pyautoattack: {reason}. Type: {INSTALL} (it has no "
                "other requirements than torch and numpy)."
            ) from reason
        found: ModuleType = autoattack
    else:
        found = pyautoattack
    return found
