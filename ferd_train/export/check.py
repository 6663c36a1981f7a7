"""An exported network beside the original: logits, classes, accuracy, time.

N images, B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.metrics.intervals import Interval, worst_class_interval
from ferd_eval.models import Classifier
from ferd_train.export.formats import Program

#: Logits of one network on two runtimes may differ by so much relative to the largest of them.
ROUNDING = 1e-4

#: Images a pass.
_AT_ONCE = 128

#: Batches that are timed: at least and at most so many, for so many seconds.
_FEWEST, _MOST, _SECONDS = 5, 50, 2.0


@dataclass(frozen=True)
class Difference:
    """Two networks' logits on the same images.

    Attributes:
        images: N.
        largest: difference of two logits, of all N·K.
        scale: the original's largest logit, by its absolute value.
        flips: images whose class differs.
    """

    images: int
    largest: float
    scale: float
    flips: int

    @classmethod
    def between(cls, original_NK: Tensor, exported_NK: Tensor) -> Difference:
        apart_NK = (original_NK - exported_NK).abs()
        return cls(
            len(original_NK),
            float(apart_NK.nan_to_num(torch.inf, torch.inf).max()),
            float(original_NK.abs().max()),
            int((original_NK.argmax(1) != exported_NK.argmax(1)).sum()),
        )

    @property
    def is_rounding(self) -> bool:
        """Whether the two are one network on two runtimes.

        A class that flips then had a margin of less than twice that rounding.
        """
        return self.largest <= ROUNDING * max(1.0, self.scale)


@dataclass(frozen=True)
class Accuracy:
    """Fractions of the images that are right.

    Attributes:
        worst_class95: 95 % interval of the class that truly is lowest, whichever it is.
    """

    average: float
    worst_class: float
    worst_class95: Interval

    @classmethod
    def of(cls, logits_NK: Tensor, labels_N: NDArray[np.int64]) -> Accuracy:
        right_N = logits_NK.argmax(1).numpy() == labels_N
        n_K = np.bincount(labels_N)
        right_K = np.bincount(labels_N[right_N], minlength=len(n_K))
        interval = worst_class_interval(right_K, n_K)
        assert interval is not None, "no images"
        lowest = float((right_K[n_K > 0] / n_K[n_K > 0]).min())
        return cls(float(right_N.mean()), lowest, interval)


def logits(network: Program, x_NCHW: Tensor) -> Tensor:
    """In batches, N×K."""
    with torch.no_grad():
        return torch.cat([network(part_BCHW) for part_BCHW in torch.split(x_NCHW, _AT_ONCE)])


def adversarial(
    classifier: Classifier, x_NCHW: Tensor, labels_N: Tensor, threat: Threat, seed: int
) -> Tensor:
    """Images that PGD-20 makes against the original, each within `threat` of its own."""
    made = []
    for index_B in torch.split(torch.arange(len(x_NCHW)), _AT_ONCE):
        x_BCHW = x_NCHW[index_B]
        batch = Batch(x_BCHW, labels_N[index_B], index_B, logits(classifier, x_BCHW))
        made.append(PGD().examples(classifier, batch, threat, seed=seed, passes=Passes()))
    return torch.cat(made)


def latency(network: Program, x_BCHW: Tensor) -> float:
    """Median milliseconds of a batch, after two that do not count: programs settle in them."""
    times: list[float] = []
    with torch.no_grad():
        network(x_BCHW)
        network(x_BCHW)
        while len(times) < _FEWEST or (len(times) < _MOST and sum(times) < _SECONDS):
            began = time.perf_counter()
            network(x_BCHW)
            times.append(time.perf_counter() - began)
    return 1000 * median(times)
