"""Diagnose gradient masking: can attacks get a grip on the network at all?

Carlini et al., "On evaluating adversarial robustness" (2019), §5; Athalye et al., "Obfuscated
gradients give a false sense of security" (ICML 2018), §3.1; Croce & Hein (ICML 2020), whose
software makes some of these checks. `ferd_eval.metrics.sanity.network_checks` judges the
measurements, without torch. S images of the sample, B batch, K classes, T numbers of steps,
C channels, H × W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import (
    PGD,
    Attack,
    Batch,
    Passes,
    Problem,
    Threat,
    Verdicts,
    frozen,
    losses,
)
from ferd_eval.attacks.autoattack.apgd import dlr_to_target
from ferd_eval.attacks.pixel_bounds import DISTANCES, distance_inside, inside
from ferd_eval.attacks.problem import Objective
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.model_checks import as_images
from ferd_eval.io.epsilon import format_quantity
from ferd_eval.runtime.device import is_out_of_memory, seed_torch

#: Most images diagnosed, over all classes.
SAMPLE = 256

#: Most passes that an image of the sample costs, a backward pass as two: with gradients (47 forward
#: and 44 backward for an image that survives everything), and without.
PASSES = {True: 47 + 2 * 44, False: 3}

#: Images sent through again, each alone.
_ALONE = 8

#: Outputs closer than this, relative to the largest logit, differ by rounding only. Kernels for
#: other batch sizes move float32 logits by some 1e-6.
_ROUNDING = 1e-4

#: Tolerance for the sum of a row of probabilities.
_SUM_SLACK = 1e-3

#: Steps after which PGD's loss is measured.
_STEPS = (1, 5, 10, 20)

Loss = Callable[[Tensor, Tensor], Tensor]


def diagnose(
    model: nn.Module,
    data: LabelledImages,
    threat: Threat,
    *,
    seed: int,
    batch_size: int,
    device: torch.device,
    by_gradient: bool = True,
    sample: int = SAMPLE,
    most: int = SAMPLE,
) -> dict[str, Any]:
    """Measure signs of gradient masking on a few images; the network is left as it was.

    The images are the first of each class in data-set order, in proportion to the classes. Random
    numbers are those of a run with this seed.

    Args:
        model: maps images in [0, 1], B×C×H×W, to logits B×K, on `device`.
        data: the images of the run.
        threat: the run's largest ball.
        seed: random seed.
        batch_size: images per pass at most; halved when memory runs out.
        device: where the network is.
        by_gradient: whether to measure gradients; False where no attack takes any.
        sample: images to begin with; all where there are fewer.
        most: images to measure anew where something looks odd.

    Returns:
        ``manifest["diagnosis"]``: counts with their n, overall and by class, in plain lists and
        numbers; None for what was not measured.

    Raises:
        RuntimeError: not even one image fits into memory, or the network itself fails.
    """

    def measured(size: int) -> dict[str, Any]:
        rows = _first_of_each_class(data, size)
        images = as_images(data.images_NCHW[rows], model, device)
        labels_S, indices_S = (
            torch.from_numpy(each_N[rows]).to(device) for each_N in (data.labels_N, data.indices_N)
        )
        at_once = min(batch_size, len(rows))
        while True:
            measurement = _Measurement(
                model, images, labels_S, indices_S, data.num_classes, threat, seed, at_once
            )
            try:
                return measurement.measure(by_gradient=by_gradient and data.num_classes > 1)
            except (RuntimeError, MemoryError) as error:
                if at_once == 1 or not is_out_of_memory(error):
                    raise
            at_once //= 2
            if device.type == "cuda":
                torch.cuda.empty_cache()

    first = measured(sample)
    if first["images"] >= min(most, len(data)) or not _looks_odd(first):
        return first
    second = measured(most)
    cost = {key: spent + first["cost"][key] for key, spent in second["cost"].items()}
    return {**second, "cost": cost}


def _looks_odd(diagnosis: Mapping[str, Any]) -> bool:
    """Whether more images may say something else: attacks seem to lack grip on some of these."""
    if diagnosis["loss"] is None:
        return False
    climbs = diagnosis["loss"]["count"] == diagnosis["loss"]["n"]
    stuck = any(tally["count"] for tally in diagnosis["zero_gradients"].values())
    return stuck or diagnosis["far"]["count"] > 0 or not climbs


def _first_of_each_class(data: LabelledImages, size: int) -> NDArray[np.int64]:
    """Positions in the data set, ascending: one of each class, then in proportion."""
    share_N = np.empty(len(data))
    for k, count in enumerate(data.class_counts):
        share_N[data.labels_N == k] = np.arange(count) / max(count, 1)
    return np.sort(np.argsort(share_N, kind="stable")[:size])


@dataclass(frozen=True)
class _Climb(PGD):
    """PGD that keeps the loss before each step, so that one walk tells it for every length."""

    before_TB: list[Tensor] = field(default_factory=list, compare=False, repr=False)

    def objective(self, problem: Problem) -> Objective:
        """Cross-entropy, as PGD."""
        plain = super().objective(problem)

        def kept(logits_BK: Tensor) -> Tensor:
            loss_B = plain(logits_BK)
            self.before_TB.append(loss_B.detach())
            return loss_B

        return kept


@dataclass(frozen=True, eq=False)
class _Measurement:
    """On S images, at most `size` a pass."""

    model: nn.Module
    x_SCHW: Tensor
    labels_S: Tensor
    indices_S: Tensor
    num_classes: int
    threat: Threat
    seed: int
    size: int
    passes: Passes = field(default_factory=Passes)

    def measure(self, *, by_gradient: bool) -> dict[str, Any]:
        """Everything, with its cost."""
        began = time.perf_counter()
        with frozen(self.model):
            seed_torch(self.seed)  # for networks that draw numbers of their own
            logits_SK = self._logits(self.x_SCHW)
            batches = self._batches(logits_SK)
            measured: dict[str, Any] = {
                "images": len(logits_SK),
                "eps": self.threat.radius,
                "eps_text": format_quantity(self.threat.eps),
                "softmax": self._tally(_are_probabilities(logits_SK)),
                "randomised": self._difference(logits_SK, self._logits(self.x_SCHW)),
                "batch_dependent": self._without_neighbours(logits_SK),
                **dict.fromkeys(("zero_gradients", "gradients_at_bounds", "far", "loss")),
            }
            if by_gradient:
                measured |= self._clean_gradients(batches)
                measured["loss"], right_S = self._loss_over_steps(batches)
                measured["far"] = self._far(batches, right_S)
        cost = {"forward": self.passes.forward, "backward": self.passes.backward}
        return {**measured, "cost": {"seconds": time.perf_counter() - began, **cost}}

    def _without_neighbours(self, logits_SK: Tensor) -> dict[str, Any]:
        """A few images, each alone; n is 0 where batches hold one image anyway."""
        images = len(logits_SK)
        in_company = 0 if self.size == 1 else images - (images % self.size == 1)
        at_A = torch.linspace(0, max(in_company - 1, 0), min(_ALONE, in_company)).long()
        at_A = at_A.to(self.labels_S.device)
        alone = [self._forward(self.x_SCHW[i : i + 1]) for i in at_A.tolist()]
        alone_AK = torch.cat([logits_SK[:0], *alone])
        return self._difference(logits_SK[at_A], alone_AK, self.labels_S[at_A])

    def _difference(
        self, first_BK: Tensor, second_BK: Tensor, labels_B: Tensor | None = None
    ) -> dict[str, Any]:
        """Images whose output, and whose prediction, differs by more than rounding."""
        scale = first_BK.abs().max() if first_BK.numel() else 1.0
        # Written so that NaN differs.
        differ_B = ~((first_BK - second_BK).abs() <= _ROUNDING * scale).all(dim=1)
        changed_B = differ_B & (first_BK.argmax(dim=1) != second_BK.argmax(dim=1))
        changed = self._tally(changed_B, labels_B)
        return {**self._tally(differ_B, labels_B), "changed": changed["count"]}

    def _clean_gradients(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """Clean images without a usable gradient, for each loss; and stuck pixels.

        Pixels at 0, at 1 and elsewhere are stuck if the gradient of the margin, which does not fade
        with confidence, is 0 there but not a little further inside.
        """
        distance = distance_inside(self.model, self.x_SCHW, self.passes)
        lacking: dict[str, list[Tensor]] = {name: [] for name in _LOSSES}
        pixels_2K = {
            name: torch.zeros(2, self.num_classes, dtype=torch.int64, device=self.labels_S.device)
            for name in _places(self.x_SCHW[:0])
        }
        for batch in batches:
            x_BCHW, labels_B = batch.x_BCHW, batch.labels_B
            gradients = self._gradients(x_BCHW, labels_B, _LOSSES)
            for name, gradient_BCHW in gradients.items():
                usable_BCHW = gradient_BCHW.isfinite() & (gradient_BCHW != 0)
                lacking[name].append(~usable_BCHW.flatten(1).any(dim=1))
            near_BCHW = inside(x_BCHW, distance or DISTANCES[0])
            (near_BCHW,) = self._gradients(near_BCHW, labels_B, _MARGIN).values()
            cut_BCHW = (gradients["margin"] == 0) & (near_BCHW != 0)
            for name, where_BCHW in _places(x_BCHW).items():
                for counted_K, those_BCHW in zip(
                    pixels_2K[name], (where_BCHW, cut_BCHW & where_BCHW), strict=True
                ):
                    counted_K.index_add_(0, labels_B, those_BCHW.flatten(1).sum(dim=1))
        return {
            "zero_gradients": {name: self._tally(torch.cat(hit)) for name, hit in lacking.items()},
            "gradients_at_bounds": {
                "distance": distance,
                **{name: _counts(*of_2K) for name, of_2K in pixels_2K.items()},
            },
        }

    def _gradients(
        self, x_BCHW: Tensor, labels_B: Tensor, losses_by_name: Mapping[str, Loss]
    ) -> dict[str, Tensor]:
        """The network's own gradients at exactly these images, B×C×H×W each."""
        leaf_BCHW = x_BCHW.detach().requires_grad_()
        self.passes.forward += len(leaf_BCHW)
        self.passes.backward += len(leaf_BCHW) * len(losses_by_name)
        logits_BK = self.model(leaf_BCHW)
        return {
            name: torch.autograd.grad(
                loss(logits_BK, labels_B).sum(), leaf_BCHW, retain_graph=True
            )[0]
            for name, loss in losses_by_name.items()
        }

    def _loss_over_steps(self, batches: Sequence[Batch]) -> tuple[dict[str, Any], Tensor]:
        """Cross-entropy on PGD's way, and which images survive, S."""
        right, losses_TB = [], []
        for batch in batches:
            climb = _Climb(steps=_STEPS[-1])
            end = self._attack(climb, batch, self.threat)
            right.append(end.adv_pred_R == batch.labels_B)
            last_B = losses.cross_entropy(self._forward(end.adv_RCHW), batch.labels_B)
            before = [climb.before_TB[steps] for steps in _STEPS[:-1]]
            losses_TB.append(torch.stack([*before, last_B]))
        right_S, loss_TS = torch.cat(right), torch.cat(losses_TB, dim=1).cpu().double()
        labels_S = self.labels_S.cpu()
        sum_TK = torch.zeros(len(_STEPS), self.num_classes, dtype=loss_TS.dtype)
        sum_TK.index_add_(1, labels_S, loss_TS)
        by_class_TK = sum_TK / torch.bincount(labels_S, minlength=self.num_classes)
        loss = {
            "steps": list(_STEPS),
            "mean": _numbers(loss_TS.mean(dim=1)),
            "mean_by_class": [_numbers(mean_K) for mean_K in by_class_TK],
            "standing": int(right_S.sum()),
            **self._tally(loss_TS[-1] > loss_TS[0], labels_S),
        }
        return loss, right_S

    def _far(self, batches: Sequence[Batch], right_S: Tensor) -> dict[str, Any]:
        """Images that survive PGD in a ball of four times the radius too.

        Those that fell in the run's own ball, which lies inside, need no second attack.
        """
        far = Threat(min(4 * self.threat.eps, Fraction(1)))
        right = []
        for batch, right_B in zip(batches, torch.split(right_S, self.size), strict=True):
            if right_B.any():
                rest = Batch(*(part[right_B] for part in vars(batch).values()))
                end = self._attack(PGD(steps=_STEPS[-1]), rest, far)
                right_B = right_B.masked_scatter(right_B, end.adv_pred_R == rest.labels_B)
            right.append(right_B)
        eps = {"eps": far.radius, "eps_text": format_quantity(far.eps)}
        return {**eps, **self._tally(torch.cat(right))}

    def _attack(self, attack: Attack, batch: Batch, threat: Threat) -> Verdicts:
        return attack(self.model, batch, threat, seed=self.seed, passes=self.passes)

    def _batches(self, logits_SK: Tensor) -> list[Batch]:
        parts = (self.x_SCHW, self.labels_S, self.indices_S, logits_SK)
        return [
            Batch(*together)
            for together in zip(*(torch.split(part, self.size) for part in parts), strict=True)
        ]

    def _logits(self, x_SCHW: Tensor) -> Tensor:
        return torch.cat([self._forward(x_BCHW) for x_BCHW in torch.split(x_SCHW, self.size)])

    def _forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes.forward += len(x_BCHW)
        with torch.no_grad():
            logits_BK: Tensor = self.model(x_BCHW)
        return logits_BK

    def _tally(self, hit_B: Tensor, labels_B: Tensor | None = None) -> dict[str, Any]:
        """Counts of images, overall and by class."""
        labels_B = self.labels_S if labels_B is None else labels_B
        n_K = torch.bincount(labels_B, minlength=self.num_classes)
        return _counts(n_K, torch.bincount(labels_B[hit_B], minlength=self.num_classes))


def _counts(n_K: Tensor, count_K: Tensor) -> dict[str, Any]:
    return {
        "n": int(n_K.sum()),
        "count": int(count_K.sum()),
        "n_by_class": n_K.tolist(),
        "count_by_class": count_K.tolist(),
    }


def _places(x_BCHW: Tensor) -> dict[str, Tensor]:
    """Pixels at either end of their range, and others, B×C×H×W."""
    at_0_BCHW, at_1_BCHW = x_BCHW == 0, x_BCHW == 1
    return {"at_0": at_0_BCHW, "at_1": at_1_BCHW, "elsewhere": ~(at_0_BCHW | at_1_BCHW)}


def _are_probabilities(logits_BK: Tensor) -> Tensor:
    """Rows without a negative number that add up to 1."""
    adds_up_B = (logits_BK.sum(dim=1) - 1).abs() <= _SUM_SLACK
    return (logits_BK >= 0).all(dim=1) & adds_up_B


def _dlr_to_runner_up(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Targeted DLR toward the likeliest wrong class (below four classes, as there)."""
    others_BK = logits_BK.detach().scatter(1, labels_B.unsqueeze(1), -torch.inf)
    return dlr_to_target(logits_BK, labels_B, others_BK.argmax(dim=1))


_MARGIN: Mapping[str, Loss] = {"margin": losses.margin}
_LOSSES: Mapping[str, Loss] = {
    "cross-entropy": losses.cross_entropy,
    **_MARGIN,
    "targeted DLR": _dlr_to_runner_up,
}


def _numbers(values: Tensor) -> list[float | None]:
    """Plain numbers; None where not finite, as for a class without images."""
    return [value if np.isfinite(value) else None for value in values.tolist()]
