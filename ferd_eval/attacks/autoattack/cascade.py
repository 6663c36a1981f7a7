"""Attacks one after the other, each on the images that those before it left standing.

The runner carries a cascade out stage by stage over the whole data set; here is what it consists of
and who is drawn for an audit. S survivors, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.keyed_rng import KeyedRng
from ferd_eval.attacks.threat import Threat


@dataclass(frozen=True)
class Cascade:
    """What stands in for an attack in a plan: an image is robust if it survives every stage."""

    family: str  #: name in reports
    stages: tuple[Attack, ...]  #: attacks on all that still stand, in order
    audits: tuple[Attack, ...] = ()  #: see only a random sample of the stages' survivors
    sample: int = 0  #: images in that sample at least, over all classes

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """All of them in order. The first finds who stands before anything is tried."""
        return (Clean(), *self.stages, *self.audits)

    def is_audit(self, number: int) -> bool:
        """Whether one of `attacks`, by its place, sees only a sample."""
        return number > len(self.stages)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        """The constants of every stage, under its name."""
        return {
            "steps": sum(attack.steps for attack in self.attacks),
            "stages": {attack.family: dict(attack.constants(threat)) for attack in self.stages},
            **(
                {
                    "audits": {a.family: dict(a.constants(threat)) for a in self.audits},
                    "sample": self.sample,
                }
                if self.audits
                else {}
            ),
            "final": "worst case over the stages; the first image found that is misclassified",
        }

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """Forward and backward passes of an image that survives all stages; audits not counted."""
        each = [attack.passes_per_image(num_classes) for attack in (Clean(), *self.stages)]
        return sum(forward for forward, _ in each), sum(backward for _, backward in each)


def draw_sample(
    labels_S: NDArray[np.int64], indices_S: NDArray[np.int64], size: int, seed: int
) -> NDArray[np.int64]:
    """Choose survivors for an audit: classes in proportion, at random within a class.

    Shares are rounded up, so that no class is looked at less closely than `size` in S: the bound
    in `ferd_eval.metrics.sanity.audit` rests on it. The draw is keyed by the image: order and
    shards have no say.

    Args:
        labels_S: true classes of the S survivors.
        indices_S: their places in the data set.
        size: how many to choose at least; all when there are fewer.
        seed: the run's seed.

    Returns:
        Positions among the S, ascending.
    """
    if size >= len(labels_S):
        return np.arange(len(labels_S))
    noise = KeyedRng(seed, "audit", torch.from_numpy(np.ascontiguousarray(indices_S)))
    rank_S = noise.uniform((), torch.float64).numpy()
    chosen = []
    for label in np.unique(labels_S):
        members = np.flatnonzero(labels_S == label)
        share = -(-len(members) * size // len(labels_S))
        chosen.append(members[np.lexsort((indices_S[members], rank_S[members]))[:share]])
    return np.sort(np.concatenate(chosen))
