"""AutoAttack "standard", L∞: four searches, each on what the ones before left standing.

Croce & Hein, ICML 2020: APGD on cross-entropy, APGD on the targeted DLR, FAB toward targets,
Square. Each starts from the clean image; an image is robust if it survives all four.
B batch, K classes, M targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ferd_eval.attacks.apgd import APGDCE, APGDT
from ferd_eval.attacks.base import Attack, Perturbed, Problem
from ferd_eval.attacks.fab import FABT
from ferd_eval.attacks.lanes import Breaks, Search, run_search
from ferd_eval.attacks.noise import ReferenceNoise
from ferd_eval.attacks.square import Square
from ferd_eval.attacks.threat import Threat

#: Most classes aimed at, the likeliest first.
MOST_TARGETS = 9

#: Images handed over for each lane, so that vacated lanes can be filled again.
_IMAGES_PER_LANE = 4


@dataclass(frozen=True)
class Cascade(Attack):
    """Searches one after the other; each sees only the images that still stand.

    Attributes:
        family: name in reports.
        searches: in order.
        reference_stream: draw random numbers as the reference implementation does, batch by batch
            from torch's global generator, instead of keyed by image. For parity tests.
    """

    family: str
    searches: tuple[Search[Any], ...]
    reference_stream: bool = False

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Of an image that survives everything and is aimed at nine classes."""
        return sum(s.steps * (MOST_TARGETS if s.targeted else 1) for s in self.searches)

    def perturb(self, problem: Problem) -> Perturbed:
        """Run each search on the survivors of those before it."""
        device = problem.x_BCHW.device
        adv_BCHW = problem.x_BCHW.clone()
        steps_B = torch.zeros(len(adv_BCHW), dtype=torch.int64, device=device)
        stages: list[str | None] = [None] * len(adv_BCHW)
        correct_B = problem.clean_logits_BK.argmax(dim=1) == problem.labels_B
        standing = correct_B.nonzero().squeeze(1)
        for search in self.searches:
            if len(standing) == 0:
                break
            found = self._search(problem, search, standing)
            adv_BCHW[standing] = found.adv_NCHW
            steps_B[standing] += found.step_N
            for image, target in zip(
                standing[found.fell_N].tolist(), found.target_N[found.fell_N].tolist(), strict=True
            ):
                stages[image] = search.family + (f">{target}" if target >= 0 else "")
            standing = standing[~found.fell_N]
        return Perturbed(adv_BCHW, steps_B, tuple(stages))

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """The constants of every search, under its name."""
        targets = f"the likeliest {MOST_TARGETS} other classes, or all when there are fewer"
        return {
            "steps": self.steps,
            "searches": {search.family: asdict(search) for search in self.searches},
            **({"targets": targets} if any(s.targeted for s in self.searches) else {}),
            "random_numbers": "reference stream" if self.reference_stream else "keyed by image",
            "final": "worst case over the searches; the first image found that is misclassified",
        }

    def images_at_once(self, lanes: int) -> int:
        """More images than lanes; as many as lanes where batches must be the reference's."""
        return lanes if self.reference_stream else _IMAGES_PER_LANE * lanes

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """Of an image that survives everything."""
        targets = min(MOST_TARGETS, num_classes - 1)
        forward = backward = 0
        for search in self.searches:
            rounds = targets if search.targeted else 1
            forward += rounds * search.steps * search.forward_per_step
            backward += rounds * search.steps * search.backward_per_step
        return forward + 1, backward

    def _search(self, problem: Problem, search: Search[Any], standing: Tensor) -> Breaks:
        noise = replace(problem.noise, stream=search.family)
        if not self.reference_stream:
            part = replace(problem, noise=noise).select(standing, None)
            return run_search(search, part, self._targets(search, part), problem.lanes)
        batches = []
        for images_B in torch.split(standing, problem.lanes):
            torch.manual_seed(noise.seed)
            part = replace(problem, noise=ReferenceNoise(**vars(noise))).select(images_B, None)
            batches.append(run_search(search, part, self._targets(search, part), problem.lanes))
        return Breaks.join(batches)

    def _targets(self, search: Search[Any], problem: Problem) -> Tensor | None:
        """Other classes by descending clean logit, B×M."""
        if not search.targeted:
            return None
        logits_BK = problem.clean_logits_BK
        if self.reference_stream:  # ascending and then reversed, as it breaks ties
            return logits_BK.argsort(dim=1).flip(1)[:, 1 : 1 + MOST_TARGETS]
        others_BK = logits_BK.scatter(1, problem.labels_B.unsqueeze(1), -torch.inf)
        most = min(MOST_TARGETS, logits_BK.shape[1] - 1)
        return others_BK.argsort(dim=1, descending=True, stable=True)[:, :most]


def autoattack(*, reference_stream: bool = False) -> Cascade:
    """AutoAttack "standard"."""
    return Cascade("aa", (APGDCE(), APGDT(), FABT(), Square()), reference_stream)


def alone(search: Search[Any]) -> Cascade:
    """One search as an attack of its own."""
    return Cascade(search.family, (search,))
