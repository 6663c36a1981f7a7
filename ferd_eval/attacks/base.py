"""The sealed attack: an author writes the mathematics, the base keeps the promises.

Whatever `perturb` returns, the base freezes the network, projects into the threat's ball and the
pixel range, and judges by a fresh forward pass in the network's own precision.
B batch, M targets, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn

from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.losses import margin
from ferd_eval.attacks.passes import Passes
from ferd_eval.attacks.pixel_bounds import distance_inside, inside
from ferd_eval.attacks.threat import Threat
from ferd_eval.models.frozen import frozen
from ferd_eval.runtime.device import seed_torch

#: Rounding slack on ‖x_adv − x‖∞: x ± ε is itself rounded in float32.
LINF_SLACK = 1e-6

Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to attack, on the network's device and in its precision.

    Attributes:
        x_BCHW: pixels in [0, 1].
        labels_B: true classes.
        indices_B: positions in the data set; random numbers are keyed by them.
        clean_logits_BK: the network's output on `x_BCHW`.
    """

    x_BCHW: Tensor
    labels_B: Tensor
    indices_B: Tensor
    clean_logits_BK: Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """What the author of an attack gets to work with.

    Attributes:
        model: what the attack searches with.
        judge: what decides: the network under test. The same, or the same but for rounding.
        x_BCHW: clean images; the answer must have this shape.
        labels_B: true classes.
        targets_B: class aimed at, or None when any wrong class will do.
        clean_logits_BK: output on the clean images, already computed.
        threat: the ball to stay in.
        noise: random numbers keyed by image; never use torch's global generator.
        slots: images per forward pass that memory is known to bear; at most B.
    """

    model: nn.Module
    judge: nn.Module
    x_BCHW: Tensor
    labels_B: Tensor
    targets_B: Tensor | None
    clean_logits_BK: Tensor
    threat: Threat
    noise: KeyedRng
    passes: Passes
    slots: int

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value allowed for each pixel; do not write into them."""
        return self.threat.bounds(self.x_BCHW)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """One forward pass without gradient, shape B×K."""
        self.passes.forward += len(x_BCHW)
        with torch.no_grad():
            logits_BK: Tensor = self.model(x_BCHW)
        return logits_BK

    def verdict_logits(self, x_BCHW: Tensor) -> Tensor:
        """One forward pass through the network under test, shape B×K."""
        self.passes.forward += len(x_BCHW)
        with torch.no_grad():
            logits_BK: Tensor = self.judge(x_BCHW)
        return logits_BK

    def gradient(self, x_BCHW: Tensor, objective: Objective) -> Tensor:
        """Gradient of ``objective(logits)`` (shape B) with respect to each image."""
        return self.evaluate(x_BCHW, objective)[2]

    def evaluate(self, x_BCHW: Tensor, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """Logits B×K, ``objective(logits)`` (B) and its gradient with respect to each image.

        Networks that clamp their input are looked at just inside the pixel range, see
        `ferd_eval.attacks.pixel_bounds`.
        """
        self.passes.forward += len(x_BCHW)
        self.passes.backward += len(x_BCHW)
        distance = distance_inside(self.judge, x_BCHW, self.passes)
        leaf_BCHW = inside(x_BCHW.detach(), distance).requires_grad_()
        logits_BK = self.model(leaf_BCHW)
        value_B = objective(logits_BK)
        (gradient_BCHW,) = torch.autograd.grad(value_B.sum(), leaf_BCHW)
        return logits_BK.detach(), value_B.detach(), gradient_BCHW

    def select(self, images_L: Tensor, targets_L: Tensor | None) -> Problem:
        """The same problem for some of the images, by index, with these targets."""
        return replace(
            self,
            x_BCHW=self.x_BCHW[images_L],
            labels_B=self.labels_B[images_L],
            targets_B=targets_L,
            clean_logits_BK=self.clean_logits_BK[images_L],
            noise=self.noise.select(images_L, targets_L),
            slots=min(self.slots, len(images_L)),
        )

    def uniform_start(self) -> Tensor:
        """A point drawn uniformly from the ball, clipped to the pixel range."""
        noise_BCHW = self.noise.uniform(tuple(self.x_BCHW.shape[1:]), self.x_BCHW.dtype)
        radius = self.threat.radius
        return noise_BCHW.mul_(2 * radius).sub_(radius).add_(self.x_BCHW).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """An attack's answer with what it took.

    Attributes:
        adv_BCHW: perturbed images.
        steps_B: gradient steps or queries spent on each.
        stages: which part of the attack broke each image; None where there is only one, or where
            none did.
    """

    adv_BCHW: Tensor
    steps_B: Tensor
    stages: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of each image. R rows: B, or B·M with targets (image-major).

    Attributes:
        rows_R: row's position in the batch.
        targets_R: class aimed at, or None.
        adv_pred_R: class predicted on the perturbed image.
        margin_R: z_label − max of the others, on the perturbed image.
        confidence_R: softmax probability of `adv_pred_R`.
        linf_R: size of the perturbation.
        adv_RCHW: the perturbed images.
        steps_R: gradient steps or queries spent.
        stages: part of the attack that broke the image, None where there is none to tell.
    """

    rows_R: Tensor
    targets_R: Tensor | None
    adv_pred_R: Tensor
    margin_R: Tensor
    confidence_R: Tensor
    linf_R: Tensor
    adv_RCHW: Tensor
    steps_R: Tensor
    stages: tuple[str | None, ...]


class Attack(ABC):
    """Base of all attacks. Subclasses write `perturb`; calling the attack is sealed.

    Attributes:
        family: the method, shared by its presets; part of the random numbers' key.
        steps: gradient steps or queries spent on each image.
    """

    family: str
    steps: int

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
        search_with: nn.Module | None = None,
    ) -> Verdicts:
        """Attack a batch and judge the outcome. The network is as before, whatever happens.

        No forward pass of the attack's own is larger than `slots` (default: the batch). An attack
        may search with a network that is the same but for rounding; `model` decides.
        """
        targets_BM = self.choose_targets(batch.clean_logits_BK, batch.labels_B)
        columns = [None] if targets_BM is None else targets_BM.unbind(1)
        with frozen(model):
            seed_torch(seed)
            judged = []
            for targets_B in columns:
                problem = self._problem(model, batch, targets_B, threat, seed, passes, slots)
                problem = replace(problem, model=search_with or model)
                judged.append(judge(problem, self._allowed_examples(problem)))
        return judged[0] if targets_BM is None else _interleave(judged)

    @final
    def examples(
        self, model: nn.Module, batch: Batch, threat: Threat, *, seed: int, passes: Passes
    ) -> Tensor:
        """Attack a batch and return the images alone, unjudged: for training."""
        with frozen(model):
            problem = self._problem(model, batch, None, threat, seed, passes, None)
            return self._allowed_examples(problem).adv_BCHW

    def _problem(
        self,
        model: nn.Module,
        batch: Batch,
        targets_B: Tensor | None,
        threat: Threat,
        seed: int,
        passes: Passes,
        slots: int | None,
    ) -> Problem:
        return Problem(
            model,
            model,
            batch.x_BCHW,
            batch.labels_B,
            targets_B,
            batch.clean_logits_BK,
            threat,
            KeyedRng(seed, self.family, batch.indices_B, targets_B),
            passes,
            min(slots or len(batch.x_BCHW), len(batch.x_BCHW)),
        )

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


def looks_wrong(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Whether an image may be misclassified, B: cheap, and never no where `predict` says so.

    A label whose logit is not finite is never predicted, though argmax would pick a NaN.
    """
    lost_B = ~logits_BK.gather(1, labels_B.unsqueeze(1)).squeeze(1).isfinite()
    return lost_B | (logits_BK.argmax(dim=1) != labels_B)


def predict(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Predicted classes, B. A label whose logit is not finite is never the prediction."""
    label_B1 = labels_B.unsqueeze(1)
    usable_BK = torch.where(logits_BK.isfinite(), logits_BK, -torch.inf)
    lost_B1 = ~logits_BK.gather(1, label_B1).isfinite()
    # Below every −∞ there is nothing: where all are lost, any class but the label is predicted.
    others_BK = torch.where(usable_BK.isfinite(), usable_BK, torch.finfo(logits_BK.dtype).min)
    barred_BK = others_BK.scatter(1, label_B1, -torch.inf)
    return torch.where(lost_B1, barred_BK, usable_BK).argmax(dim=1)


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

    def merge(field: str) -> Tensor:
        return torch.stack([getattr(column, field) for column in columns], dim=1).flatten(0, 1)

    return Verdicts(
        rows_R=merge("rows_R"),
        targets_R=merge("targets_R"),
        adv_pred_R=merge("adv_pred_R"),
        margin_R=merge("margin_R"),
        confidence_R=merge("confidence_R"),
        linf_R=merge("linf_R"),
        adv_RCHW=merge("adv_RCHW"),
        steps_R=merge("steps_R"),
        stages=tuple(s for row in zip(*(c.stages for c in columns), strict=True) for s in row),
    )
