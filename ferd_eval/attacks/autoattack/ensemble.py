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

from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.batched_search import Search, run_search
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.keyed_rng import ReferenceRng
from ferd_eval.attacks.problem import Perturbed, Problem
from ferd_eval.attacks.threat import Threat
from ferd_eval.runtime.device import seed_torch

#: Most classes aimed at, the likeliest first.
MOST_TARGETS = 9

#: Survivors that `aa-audited` shows to FAB and Square: with none of them broken, at most about 3 in
#: 256 of the others would have been (95 %).
AUDIT_SAMPLE = 256

#: Images handed over for each slot, so that vacated slots can be filled again.
_IMAGES_PER_SLOT = 4


@dataclass(frozen=True)
class SearchAttack(Attack):
    """One search on the images that are classified correctly; the others are left as they are."""

    search: Search[Any]  #: the steps, in slots
    #: Draw random numbers as the reference implementation does, batch by batch from torch's global
    #: generator, instead of keyed by image. For parity tests.
    reference_stream: bool = False
    every_class: bool = False  #: aim at all other classes, not at the likeliest nine

    @property
    def family(self) -> str:  # type: ignore[override]
        """The search's name: it meets the same numbers alone and in a cascade."""
        return self.search.family

    @property
    def proposes(self) -> bool:  # type: ignore[override]
        """The reference has no other network than the one under test."""
        return not self.reference_stream

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Of an image that survives, aimed at nine classes."""
        return self.search.steps * (MOST_TARGETS if self.search.targeted else 1)

    def perturb(self, problem: Problem) -> Perturbed:
        """Search, and name the class aimed at where the search hit."""
        if self.reference_stream:
            seed_torch(problem.noise.seed)
            problem = replace(problem, noise=ReferenceRng(**vars(problem.noise)))
        found = run_search(self.search, problem, self._targets(problem), problem.slots)
        stages = tuple(
            (self.family + (f">{target}" if target >= 0 else "")) if fell else None
            for fell, target in zip(found.fell_N.tolist(), found.target_N.tolist(), strict=True)
        )
        return Perturbed(found.adv_NCHW, found.step_N, stages)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        targets = "all other classes, the likeliest first"
        if not self.every_class:
            targets = f"the likeliest {MOST_TARGETS} other classes, or all when there are fewer"
        return {
            "steps": self.steps,
            **({"steps_per_target": self.search.steps} if self.search.targeted else {}),
            **asdict(self.search),
            **self.search.fixed_constants(),
            **({"targets": targets} if self.search.targeted else {}),
            "random_numbers": "reference stream" if self.reference_stream else "keyed by image",
        }

    def images_at_once(self, slots: int) -> int:
        """More images than slots; as many as slots where batches must be the reference's."""
        return slots if self.reference_stream else _IMAGES_PER_SLOT * slots

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """Of an image that survives, with a look at each nearest miss and the verdict."""
        targets = self.targets_among(num_classes)
        steps = targets * self.search.steps
        forward = steps * self.search.forward_per_step + targets + 1
        return forward, steps * self.search.backward_per_step

    def targets_among(self, num_classes: int) -> int:
        """How many of the classes an image that survives is aimed at; 1 if at none."""
        if not self.search.targeted:
            return 1
        others = num_classes - 1
        return others if self.every_class else min(MOST_TARGETS, others)

    def _targets(self, problem: Problem) -> Tensor | None:
        """Other classes by descending clean logit, B×M."""
        if not self.search.targeted:
            return None
        logits_BK = problem.clean_logits_BK
        most = self.targets_among(logits_BK.shape[1])
        if self.reference_stream:  # ascending and then reversed, as it breaks ties
            return logits_BK.argsort(dim=1).flip(1)[:, 1 : 1 + most]
        others_BK = logits_BK.scatter(1, problem.labels_B.unsqueeze(1), -torch.inf)
        return others_BK.argsort(dim=1, descending=True, stable=True)[:, :most]


def standard(*, reference_stream: bool = False) -> Cascade:
    """AutoAttack "standard"."""
    return cascade("aa", APGDCE(), APGDT(), FABT(), Square(), reference_stream=reference_stream)


def audited(sample: int = AUDIT_SAMPLE) -> Cascade:
    """AutoAttack with FAB and Square on a random sample of both APGDs' survivors."""
    return Cascade(
        "aa-audited",
        (SearchAttack(APGDCE()), SearchAttack(APGDT())),
        audits=(SearchAttack(FABT()), SearchAttack(Square())),
        sample=sample,
    )


def as_in_torchattacks() -> Cascade:
    """What torchattacks ≥ 3.3 calls AutoAttack when told the number of classes.

    10 iterations, all other classes as targets, and Square's schedule rescaled.
    """
    searches = (
        APGDCE(iterations=10),
        APGDT(iterations=10),
        FABT(iterations=10),
        Square(rescaled=True),
    )
    return Cascade(
        "aa-torchattacks", tuple(SearchAttack(each, every_class=True) for each in searches)
    )


def cascade(family: str, *searches: Search[Any], reference_stream: bool = False) -> Cascade:
    """Searches one after the other."""
    return Cascade(family, tuple(SearchAttack(each, reference_stream) for each in searches))


def alone(search: Search[Any]) -> Cascade:
    """One search as an attack of its own: images that are misclassified anyway are not robust."""
    return cascade(search.family, search)
