"""The same presets through torchattacks, as a cross-check by somebody else's code.

torchattacks has no CW∞ (its `CW` is the L2 attack). Its PGD is steered there by showing it a
network whose cross-entropy is a rising function of the margin: two logits, 0 for the label and
the margin for "any other", whose gradient has the margin's sign everywhere.
B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.attacks import losses
from ferd_eval.attacks.base import Attack, Problem
from ferd_eval.attacks.cascade import Cascade
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.gradient import CW, FGSM, PGD, TargetedPGD
from ferd_eval.attacks.suite import PlannedAttack
from ferd_eval.attacks.threat import Threat
from ferd_eval.errors import UserError

INSTALL = "pip install --no-deps torchattacks"


def through_torchattacks(plan: Sequence[PlannedAttack]) -> tuple[PlannedAttack, ...]:
    """Replace each attack of the plan by torchattacks' own.

    Raises:
        UserError: torchattacks is not installed, or has no such attack.
    """
    try:
        import torchattacks  # noqa: F401
    except ImportError as reason:
        raise UserError(
            f"--engine torchattacks needs torchattacks: {reason}. Type: {INSTALL} (it pins an old "
            "requests that it does not use)."
        ) from reason
    return tuple(
        planned
        if isinstance(planned.attack, Clean)
        else replace(planned, attack=ThroughTorchattacks(planned.attack))
        for planned in plan
    )


class ThroughTorchattacks(Attack):
    """Runs torchattacks with the constants of one of our attacks.

    Its random start comes from torch's global generator, seeded alike for every batch; verdicts
    therefore depend on the batch size a little, as they do in torchattacks itself.
    """

    def __init__(self, original: Attack | Cascade) -> None:
        if not isinstance(original, FGSM | PGD | CW | TargetedPGD):
            raise UserError(
                f"torchattacks has no counterpart of {type(original).__name__}; use "
                "--engine native for it."
            )
        self.original = original
        self.family = original.family
        self.steps = original.steps

    def perturb(self, problem: Problem) -> Tensor:
        """Hand over network, constants and labels."""
        import torchattacks

        original, threat = self.original, problem.threat
        labels_B = problem.labels_B if problem.targets_B is None else problem.targets_B
        network: nn.Module = _Counted(problem)
        if isinstance(original, CW):
            network = _MarginAsLogits(network, labels_B, original.kappa)
        # torchattacks restores the mode it finds; a fresh wrapper would be found in train mode.
        network.eval()
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
        if problem.targets_B is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        if isinstance(original, CW):
            labels_B = torch.zeros_like(labels_B)
        adv_BCHW: Tensor = attack(problem.x_BCHW, labels_B)
        return adv_BCHW

    def choose_targets(self, clean_logits_BK: Tensor, labels_B: Tensor) -> Tensor | None:
        """As the original."""
        return self.original.choose_targets(clean_logits_BK, labels_B)

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """As the original."""
        return self.original.passes_per_image(num_classes)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """As the original, and who ran it."""
        return {**self.original.constants(threat), "engine": "torchattacks"}


class _Counted(nn.Module):
    """The network, with its passes counted for the manifest."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.network = problem.model
        self._passes = problem.passes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self._passes.forward += len(x_BCHW)
        self._passes.backward += len(x_BCHW) if torch.is_grad_enabled() else 0
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK


class _MarginAsLogits(nn.Module):
    """Two logits, (0, margin): cross-entropy to class 0 is log(1 + e^margin)."""

    def __init__(self, network: nn.Module, labels_B: Tensor, kappa: float | None) -> None:
        super().__init__()
        self.network = network
        self._labels_B = labels_B
        self._kappa = kappa

    def forward(self, x_BCHW: Tensor) -> Tensor:
        margin_B = losses.margin(self.network(x_BCHW), self._labels_B)
        if self._kappa is not None:
            margin_B = margin_B.clamp(max=self._kappa)
        return torch.stack([torch.zeros_like(margin_B), margin_B], dim=1)
