"""The same presets through torchattacks, as a cross-check by somebody else's code.

Its AutoAttack stands in for `aa-torchattacks` alone: it has 10 iterations where AutoAttack has 100.
torchattacks has no CW∞ (its `CW` is the L2 attack). Its PGD is steered there by showing it a
network whose cross-entropy is a rising function of the margin: two logits, 0 for the label and
the margin for "any other", whose gradient has the margin's sign everywhere.
B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import torch
from torch import Tensor, nn

from ferd_eval.attacks import losses
from ferd_eval.attacks.adapters.base import (
    AdaptedSearch,
    Adapter,
    WrappedModel,
    isolated_globals,
    require_dlr,
)
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.attacks.autoattack.ensemble import SearchAttack, as_in_torchattacks
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.gradient import CW, FGSM, PGD, TargetedPGD
from ferd_eval.attacks.plan import PlannedAttack
from ferd_eval.attacks.problem import Problem
from ferd_eval.errors import UserError

INSTALL = "pip install --no-deps torchattacks"


#: Its class for each search of ours.
_SEARCHES = {"apgd-ce": "APGD", "apgd-t": "APGDT", "fab-t": "FAB", "square": "Square"}


def through_torchattacks(
    plan: Sequence[PlannedAttack], num_classes: int
) -> tuple[PlannedAttack, ...]:
    """Replace each attack of the plan by torchattacks' own.

    UserError: torchattacks is not installed, or has no such attack for so many classes.
    """
    try:
        import torchattacks  # noqa: F401
    except ImportError as reason:
        raise UserError(
            f"--engine torchattacks needs torchattacks: {reason}. Type: {INSTALL} (it pins an old "
            "requests that it does not use)."
        ) from reason
    return tuple(replace(each, attack=_counterpart(each, num_classes)) for each in plan)


def _counterpart(planned: PlannedAttack, num_classes: int) -> Attack | Cascade:
    attack = planned.attack
    if isinstance(attack, Clean):
        return attack
    if attack == as_in_torchattacks():
        require_dlr(planned, num_classes)
        version = metadata.version("torchattacks")
        stages = tuple(
            SearchThroughTorchattacks(stage, "torchattacks", version)
            for stage in attack.attacks
            if isinstance(stage, SearchAttack)
        )
        return replace(attack, stages=stages)
    if isinstance(attack, Cascade | SearchAttack):
        raise UserError(
            f"torchattacks has no {planned.id}: what it calls AutoAttack is weaker (10 iterations, "
            "not 100). Give --attacks aa-torchattacks for that one, or --engine autoattack for "
            "the authors' own code."
        )
    return ThroughTorchattacks(attack)


@dataclass(frozen=True)
class ThroughTorchattacks(Adapter):
    """Runs torchattacks with the constants of one of our attacks.

    Its random start comes from torch's global generator, seeded alike for every batch; verdicts
    therefore depend on the batch size a little, as they do in torchattacks itself.
    """

    engine = "torchattacks"

    def __post_init__(self) -> None:
        if not isinstance(self.original, FGSM | PGD | CW | TargetedPGD):
            raise UserError(
                f"torchattacks has no counterpart of {type(self.original).__name__}; use "
                "--engine native for it."
            )

    def perturb(self, problem: Problem) -> Tensor:
        import torchattacks

        original, threat = self.original, problem.threat
        assert isinstance(original, FGSM | PGD | CW | TargetedPGD)
        labels_B = problem.labels_B if problem.targets_B is None else problem.targets_B
        network: nn.Module = WrappedModel(problem)
        if isinstance(original, CW):
            network = _MarginAsLogits(network, labels_B, original.kappa)
            labels_B = torch.zeros_like(labels_B)
        with isolated_globals():
            if isinstance(original, FGSM):
                attack = torchattacks.FGSM(network, eps=threat.radius)
            else:
                attack = torchattacks.PGD(
                    network,
                    eps=threat.radius,
                    alpha=float(original.step_size_for(threat)),
                    steps=original.steps,
                    random_start=original.random_start,
                )
            attack.set_device(problem.x_BCHW.device)
            if problem.targets_B is not None:
                attack.set_mode_targeted_by_label(quiet=True)
            adv_BCHW: Tensor = attack(problem.x_BCHW, labels_B)
        return adv_BCHW


class SearchThroughTorchattacks(AdaptedSearch):
    """One of the four parts of torchattacks' AutoAttack, with the constants it has there."""

    engine = "torchattacks"

    def find(self, network: nn.Module, problem: Problem) -> Tensor:
        """Run the part on everything at once, as torchattacks does."""
        import torchattacks

        with isolated_globals():
            whole = torchattacks.AutoAttack(
                network,
                eps=problem.threat.radius,
                n_classes=problem.clean_logits_BK.shape[1],
                seed=problem.noise.seed,
            )
            parts = {type(part).__name__: part for part in whole._autoattack.attacks}
            part = parts[_SEARCHES[self.family]]
            part.set_device(problem.x_BCHW.device)
            adv_PCHW: Tensor = part(problem.x_BCHW, problem.labels_B)
        return adv_PCHW


class _MarginAsLogits(nn.Module):
    """Two logits, (0, margin): cross-entropy to class 0 is log(1 + e^margin)."""

    def __init__(self, network: nn.Module, labels_B: Tensor, kappa: float | None) -> None:
        super().__init__()
        self.network = network
        self._labels_B = labels_B
        self._kappa = kappa
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        margin_B = losses.margin(self.network(x_BCHW), self._labels_B)
        if self._kappa is not None:
            margin_B = margin_B.clamp(max=self._kappa)
        return torch.stack([torch.zeros_like(margin_B), margin_B], dim=1)
