"""The sealed attack: an author writes the mathematics, the base keeps the promises.

Whatever `perturb` returns, the base freezes the network, projects into the threat's ball and the
pixel range, and judges by a fresh forward pass in the network's own precision.
B batch, M targets, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.losses import margin
from ferd_eval.attacks.passes import Passes
from ferd_eval.attacks.problem import Batch, Perturbed, Problem, predict
from ferd_eval.attacks.search_network import SearchNetwork
from ferd_eval.attacks.threat import Threat
from ferd_eval.models.frozen import frozen
from ferd_eval.runtime.device import seed_torch

#: Rounding slack on ‖x_adv − x‖∞: x ± ε is itself rounded in float32.
LINF_SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of each image. R rows: B, or B·M with targets (image-major)."""

    rows_R: Tensor  #: row's position in the batch
    targets_R: Tensor | None  #: class aimed at, or None
    adv_pred_R: Tensor  #: class predicted on the perturbed image
    margin_R: Tensor  #: z_label − max of the others, on the perturbed image
    confidence_R: Tensor  #: softmax probability of `adv_pred_R`
    linf_R: Tensor  #: size of the perturbation
    adv_RCHW: Tensor  #: the perturbed images
    steps_R: Tensor  #: gradient steps or queries spent
    #: Part of the attack that broke the image; None where it stands or the attack has one part.
    stages: tuple[str | None, ...]


class Attack(ABC):
    """Base of all attacks. Subclasses write `perturb`; calling the attack is sealed."""

    family: str  #: the method, shared by its presets; part of the random numbers' key
    steps: int  #: gradient steps or queries spent on each image
    #: Whether `perturb` may search with a likeness of the network, through `Problem` alone.
    proposes: bool = False

    @abstractmethod
    def perturb(self, problem: Problem) -> Tensor | Perturbed:
        """Return perturbed images, B×C×H×W. They are projected and judged by the caller."""

    def images_at_once(self, slots: int) -> int:
        """Images that `perturb` wants at a time when `slots` fit into a forward pass."""
        return slots

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """Every number that defines the attack, for the manifest and the reports."""
        return {"steps": self.steps}

    def choose_targets(self, clean_logits_BK: Tensor, labels_B: Tensor) -> Tensor | None:
        """Classes to aim at, B×M; None (the default) for an untargeted attack."""
        return None

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """Forward and backward passes an image costs, for the estimate of the time left."""
        return self.steps + 1, self.steps

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for sealed in ("__call__", "examples"):
            if sealed in cls.__dict__:
                raise TypeError(f"{cls.__name__} overrides the sealed {sealed}; write perturb()")

    @final
    def __call__(
        self,
        model: nn.Module,
        batch: Batch,
        threat: Threat,
        *,
        seed: int,
        passes: Passes,
        slots: int | None = None,
        search: SearchNetwork | None = None,
    ) -> Verdicts:
        """Attack a batch and judge the outcome. The network is as before, whatever happens.

        No forward pass of the attack's own is larger than `slots` (default: the batch). An attack
        may search with a network that is the same but for rounding; `model` decides.
        """
        targets_BM = self.choose_targets(batch.clean_logits_BK, batch.labels_B)
        columns = [None] if targets_BM is None else targets_BM.unbind(1)
        slots = min(slots or len(batch.x_BCHW), len(batch.x_BCHW))
        with frozen(model):
            seed_torch(seed)
            judged = []
            for targets_B in columns:
                problem = self._problem(model, batch, targets_B, threat, seed, passes)
                problem = replace(problem, slots=slots)
                if search is not None:
                    problem = replace(problem, **vars(search))
                judged.append(judge(problem, self._allowed_examples(problem)))
        return judged[0] if targets_BM is None else _interleave(judged)

    @final
    def examples(
        self, model: nn.Module, batch: Batch, threat: Threat, *, seed: int, passes: Passes
    ) -> Tensor:
        """Attack a batch and return the images alone, unjudged: for training."""
        with frozen(model):
            problem = self._problem(model, batch, None, threat, seed, passes)
            return self._allowed_examples(problem).adv_BCHW

    def _problem(
        self,
        model: nn.Module,
        batch: Batch,
        targets_B: Tensor | None,
        threat: Threat,
        seed: int,
        passes: Passes,
    ) -> Problem:
        noise = KeyedRng(seed, self.family, batch.indices_B, targets_B)
        images = (batch.x_BCHW, batch.labels_B, targets_B, batch.clean_logits_BK)
        return Problem(model, model, *images, threat, noise, passes, len(batch.x_BCHW))

    def _allowed_examples(self, problem: Problem) -> Perturbed:
        answer = self.perturb(problem)
        if not isinstance(answer, Perturbed):
            count = len(problem.x_BCHW)
            steps_B = torch.full((count,), self.steps, device=problem.x_BCHW.device)
            answer = Perturbed(answer, steps_B, (None,) * count)
        adv_BCHW = answer.adv_BCHW.detach()
        assert adv_BCHW.shape == problem.x_BCHW.shape, (
            f"{type(self).__name__}.perturb returned shape {tuple(adv_BCHW.shape)}, "
            f"expected {tuple(problem.x_BCHW.shape)}"
        )
        allowed_BCHW = problem.threat.project(adv_BCHW.to(problem.x_BCHW), problem.x_BCHW)
        return replace(answer, adv_BCHW=allowed_BCHW)


def judge(problem: Problem, answer: Perturbed) -> Verdicts:
    """Decide by a fresh forward pass. Logits that are not finite count as −∞."""
    adv_BCHW = answer.adv_BCHW
    logits_BK = torch.cat(
        [problem.verdict_logits(part) for part in torch.split(adv_BCHW, problem.slots)]
    )
    logits_BK = torch.where(logits_BK.isfinite(), logits_BK, -torch.inf)
    pred_B = predict(logits_BK, problem.labels_B)
    linf_B = problem.threat.distance(problem.x_BCHW, adv_BCHW)
    assert float(linf_B.max()) <= problem.threat.radius + LINF_SLACK, "projection left the ball"
    fell = (pred_B != problem.labels_B).tolist()
    return Verdicts(
        rows_R=torch.arange(len(pred_B)),
        targets_R=problem.targets_B,
        adv_pred_R=pred_B,
        margin_R=-margin(logits_BK, problem.labels_B),
        confidence_R=logits_BK.softmax(dim=1).gather(1, pred_B.unsqueeze(1)).squeeze(1),
        linf_R=linf_B,
        adv_RCHW=adv_BCHW,
        steps_R=answer.steps_B,
        stages=tuple(s if f else None for s, f in zip(answer.stages, fell, strict=True)),
    )


def _interleave(columns: list[Verdicts]) -> Verdicts:
    """Merge the verdicts of M targets, image-major: all targets of the first image come first."""

    def merged(name: str) -> Any:
        parts = [getattr(column, name) for column in columns]
        if name == "stages":
            return tuple(stage for row in zip(*parts, strict=True) for stage in row)
        return torch.stack(parts, dim=1).flatten(0, 1)

    return Verdicts(**{field.name: merged(field.name) for field in fields(Verdicts)})
