"""Targeted FAB: walk along the decision boundary toward the image.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
ICML 2020, Algorithm 1 for L∞ with the boundary to one target class (FAB-T), as AutoAttack runs it.
L slots, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ferd_eval.attacks.autoattack.batched_search import Search, SlotState
from ferd_eval.attacks.autoattack.projection import shortest_move
from ferd_eval.attacks.autoattack.rows import images_of, overwrite, rows_of
from ferd_eval.attacks.problem import Problem, looks_wrong

#: Lengths below this count as this much when two moves are weighed against each other.
_SHORTEST = 1e-8


@dataclass(frozen=True, eq=False)
class FABState(SlotState):
    """Where each walk goes on from: the image just tried, or on its way back from it."""

    base_LCHW: Tensor


@dataclass(frozen=True)
class FABT(Search[FABState]):
    """FAB toward one class after the other, each time from the clean image.

    FAB looks for the nearest misclassified image, whatever its distance, and an attack with a
    radius asks whether that one is inside. Here the first misclassified image inside the radius is
    a hit and ends the search. The answer is the same: neither the radius nor the best distance so
    far has a say in where the walk goes, so the smallest distance it ever reaches is within the
    radius exactly if the distance at some step is, and the search goes on until one is.

    A step costs two forward passes and one backward pass. The image tried and the base of the next
    step are the same point only where the image tried was classified correctly, which slots those
    are is known only after its forward pass, and they are few: 10 to 20 % of the steps of images
    that stand, on three robust networks. One merged pass for both points would send every slot
    backward from either: 1.8 + 1.8 passes a step or more, not 2 + 1.
    """

    family = "fab-t"
    forward_per_step = 2
    iterations: int = 100  #: steps toward each class
    #: Largest weight of the clean image's projection against the walk's own.
    alpha_max: float = 0.1
    eta: float = 1.05  #: how far past the boundary a projection goes, 1 being on it
    beta: float = 0.9  #: where to go on after a misclassified image: 1 there, 0 clean

    @property
    def steps(self) -> int:
        """Images tried for each class."""
        return self.iterations

    def begin(self, problem: Problem) -> FABState:
        """The clean image: no random start."""
        return FABState(adv_LCHW=problem.x_BCHW, base_LCHW=problem.x_BCHW)

    def advance(self, problem: Problem, state: FABState, step_L: Tensor) -> tuple[FABState, Tensor]:
        """Cross the boundary as it looks from the base, then turn back if that succeeded.

        A hit is a misclassified image within the threat's radius.
        """
        clean_LCHW = problem.x_BCHW
        tried_LCHW = self._cross(problem, state.base_LCHW)
        logits_LK = problem.logits(tried_LCHW)
        wrong_L = looks_wrong(logits_LK, problem.labels_B)
        base_LCHW = tried_LCHW - clean_LCHW
        distance_L = rows_of(base_LCHW, clean_LCHW).abs().amax(dim=1)
        # On the way back, but for the few that were not misclassified.
        base_LCHW.mul_(self.beta).add_(clean_LCHW)
        overwrite(~wrong_L, [(base_LCHW, tried_LCHW)])
        hit_L = problem.looks_wrong(logits_LK) & (distance_L <= problem.threat.radius)
        return FABState(adv_LCHW=tried_LCHW, base_LCHW=base_LCHW), hit_L

    def best(self, problem: Problem, state: FABState) -> Tensor:
        """The clean image: what else was found is outside the radius or not misclassified."""
        return problem.x_BCHW

    def _cross(self, problem: Problem, base_LCHW: Tensor) -> Tensor:
        """Blend the base's and the clean image's nearest points on the linearised boundary.

        At the base b, z_t − z_y ≈ f + ⟨w, x − b⟩; both are sent to where that is 0 and beyond it by
        `eta`. The nearer the base is to the boundary in comparison, the more it keeps.
        """
        labels_L, targets_L = problem.labels_B, problem.targets_B
        assert targets_L is not None, "FAB-T needs a class to aim at"
        picked_L2 = torch.stack([labels_L, targets_L], dim=1)

        def lead_of_target(logits_LK: Tensor) -> Tensor:
            label_L, target_L = logits_LK.gather(1, picked_L2).unbind(1)
            return target_L - label_L

        _, lead_L, gradient_LCHW = problem.evaluate(base_LCHW, lead_of_target)
        clean_LCHW = problem.x_BCHW
        normal_LD = rows_of(gradient_LCHW, clean_LCHW)
        base_LD, clean_LD = rows_of(base_LCHW, clean_LCHW), rows_of(clean_LCHW, clean_LCHW)
        lead_L = lead_L.to(normal_LD.dtype)
        lead_of_clean_L = lead_L + (clean_LD - base_LD).mul_(normal_LD).sum(dim=1)
        # Base and clean image in one: half as many calls, which weigh on a small network.
        from_2LD = torch.stack([base_LD, clean_LD])
        move_2LD = shortest_move(from_2LD, normal_LD, torch.stack([lead_L, lead_of_clean_L]))

        base_length_L, clean_length_L = move_2LD.abs().amax(dim=2).clamp_(min=_SHORTEST).unbind()
        share_L = base_length_L / (base_length_L + clean_length_L)
        share_L.clamp_(max=self.alpha_max)
        share_2L1 = torch.stack([1 - share_L, share_L]).unsqueeze(2)
        part_2LD = move_2LD.mul_(self.eta).add_(from_2LD).mul_(share_2L1)
        tried_LD = part_2LD[0].add_(part_2LD[1]).clamp_(0, 1)
        return images_of(tried_LD, clean_LCHW)
