"""FGSM, PGD, CW∞ and targeted PGD: signed gradient steps inside an L∞ ball.

All four are one walk; they differ in objective, number and size of steps, and start.
B batch, K classes, C channels, H × W pixels, M targets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor

from ferd_eval.attacks import losses
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.problem import Objective, Problem
from ferd_eval.attacks.threat import Threat
from ferd_eval.io.epsilon import format_quantity

#: Most target classes tried per image when there are 100 classes or more (as in AutoAttack).
TOP_TARGETS = 9


class SignedGradient(Attack):
    """Walk `steps` signed gradient steps and return where the walk ends (the last iterate).

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, with
    the plain final-iterate protocol: a point fooled on the way but right at the end counts as
    right.
    """

    proposes = True
    random_start: ClassVar[bool] = True
    objective_name: ClassVar[str]  #: of `objective`, for the record

    @abstractmethod
    def objective(self, problem: Problem) -> Objective:
        """The function of the logits to raise."""

    @abstractmethod
    def step_size_for(self, threat: Threat) -> Fraction:
        """Length of one step in units of the pixel range."""

    def start(self, problem: Problem) -> Tensor:
        """Where the walk begins: a uniform point of the ball, or the image itself."""
        return problem.uniform_start() if self.random_start else problem.x_BCHW

    def perturb(self, problem: Problem) -> Tensor:
        objective = self.objective(problem)
        step = float(self.step_size_for(problem.threat))
        low_BCHW, high_BCHW = problem.box
        adv_BCHW = self.start(problem)
        for _ in range(self.steps):
            move_BCHW = problem.gradient(adv_BCHW, objective).sign().mul_(step)
            # Into the gradient's own memory: the walk allocates nothing beyond it.
            adv_BCHW = torch.clamp(move_BCHW.add_(adv_BCHW), low_BCHW, high_BCHW, out=move_BCHW)
        return adv_BCHW

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        step_size = self.step_size_for(threat)
        return {
            "steps": self.steps,
            "step_size": float(step_size),
            "step_size_text": format_quantity(step_size),
            "loss": self.objective_name,
            "random_start": self.random_start,
            "final": "last iterate",
        }


@dataclass(frozen=True)
class FGSM(SignedGradient):
    """One step of ε along the sign of the cross-entropy gradient, no random start.

    Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015.
    """

    family = "fgsm"
    random_start = False
    objective_name = "cross-entropy"
    steps: int = field(default=1, init=False)

    def step_size_for(self, threat: Threat) -> Fraction:
        return threat.eps

    def objective(self, problem: Problem) -> Objective:
        """Cross-entropy to the true class."""
        return lambda logits_BK: losses.cross_entropy(logits_BK, problem.labels_B)


@dataclass(frozen=True)
class IteratedSignedGradient(SignedGradient):
    """Several steps from a uniform start; ``step_size=None`` means ε/4."""

    steps: int = 20
    step_size: Fraction | None = None

    def step_size_for(self, threat: Threat) -> Fraction:
        return self.step_size if self.step_size is not None else threat.eps / 4


@dataclass(frozen=True)
class PGD(IteratedSignedGradient):
    """Projected gradient descent on cross-entropy (PGD-20 with its defaults)."""

    family = "pgd"
    objective_name = "cross-entropy"

    def objective(self, problem: Problem) -> Objective:
        """Cross-entropy to the true class."""
        return lambda logits_BK: losses.cross_entropy(logits_BK, problem.labels_B)


@dataclass(frozen=True)
class CW(IteratedSignedGradient):
    """CW∞: PGD on the margin max_{j≠y} z_j − z_y.

    The objective is that of Carlini & Wagner, "Towards evaluating the robustness of neural
    networks", S&P 2017; the walk is PGD's. This is *not* their L2 attack. With `kappa` the margin
    stops counting above κ.
    """

    family = "cw"
    objective_name = "margin"
    kappa: float | None = None

    def objective(self, problem: Problem) -> Objective:
        def raised(logits_BK: Tensor) -> Tensor:
            margin_B = losses.margin(logits_BK, problem.labels_B)
            return margin_B if self.kappa is None else margin_B.clamp(max=self.kappa)

        return raised

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        return {**super().constants(threat), "kappa": self.kappa}


@dataclass(frozen=True)
class TargetedPGD(IteratedSignedGradient):
    """PGD toward every other class, one after the other (the likeliest 9 when K ≥ 100).

    Success means that the network predicts the class aimed at.
    """

    family = "targeted"
    objective_name = "−cross-entropy to the target"

    def choose_targets(self, clean_logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Other classes by descending clean logit, B×M with M = K − 1, or 9 when K ≥ 100."""
        num_classes = clean_logits_BK.shape[1]
        others_BK = clean_logits_BK.scatter(1, labels_B.unsqueeze(1), -torch.inf)
        return others_BK.argsort(dim=1, descending=True, stable=True)[:, : _targets(num_classes)]

    def objective(self, problem: Problem) -> Objective:
        targets_B = problem.targets_B
        assert targets_B is not None
        return lambda logits_BK: -losses.cross_entropy(logits_BK, targets_B)

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        forward, backward = super().passes_per_image(num_classes)
        return forward * _targets(num_classes), backward * _targets(num_classes)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        targets = f"every other class; the likeliest {TOP_TARGETS} when there are 100 or more"
        return {**super().constants(threat), "targets": targets}


def _targets(num_classes: int) -> int:
    return num_classes - 1 if num_classes < 100 else TOP_TARGETS
