"""Hard labels on high-entropy examples: Yuan et al., "Data-free hard-label robustness stealing
attack", AAAI 2024. B batch, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate

from ferd_eval.attacks import Batch, KeyedRng, Passes, Problem, Threat
from ferd_eval.attacks.problem import Objective
from ferd_train.config.checks import Count
from ferd_train.losses.base import LossRecipe, StudentObjective
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.training.process_group import WHOLE, BatchShard

# A ball that holds every image in [0, 1]: PGD is bounded by the pixel range alone.
_ANYWHERE = Threat(Fraction(1))


def entropy(logits_BK: Tensor) -> Tensor:
    """−Σ_k p_k ln p_k of the softmaxes, shape B."""
    return -(logits_BK.softmax(dim=1) * logits_BK.log_softmax(dim=1)).sum(dim=1)


@dataclass(frozen=True)
class HighEntropy(KLPGD):
    """PGD that raises the entropy of the prediction, from x + 0.001·N."""

    family = "hee"
    objective_name = "entropy"
    steps: int = 10
    step_size: Fraction | None = Fraction(3, 100)

    def objective(self, problem: Problem) -> Objective:
        return entropy


@dataclass(frozen=True)
class DFHLLossRecipe(LossRecipe):
    """Cross-entropy to the class that the teacher sees in high-entropy examples.

    PGD is not confined to a ball: 10 steps of 0.03 lead up to 0.3 away. Values of the authors'
    release, for CIFAR.

    Attributes:
        steps: of PGD.
        step_size: length of one.
    """

    name: str = field(default="dfhl", init=False)
    steps: Count = 10
    step_size: Fraction = Fraction(3, 100)

    @property
    def pgd_steps(self) -> int:
        return self.steps

    def build(self, num_classes: int) -> HardLabels:
        return HardLabels(HighEntropy(self.steps, self.step_size))


class HardLabels(StudentObjective):
    """CE(p_S(x_HEE), argmax p_T(x_HEE)); there is no loss on the images themselves.

    Of the teacher only the predicted class is used, and only on the examples taught.
    """

    def __init__(self, pgd: HighEntropy) -> None:
        self._pgd = pgd
        self._seen: tuple[Tensor, Tensor] | None = None

    def examples(
        self, teacher: nn.Module, student: nn.Module, batch: Batch, threat: Threat, seed: int
    ) -> Tensor:
        """High-entropy examples near strongly augmented images; the ball is ignored."""
        strong_BCHW = strong_augmentation(batch.x_BCHW, seed, batch.indices_B)
        strong = Batch(strong_BCHW, batch.labels_B, batch.indices_B, batch.clean_logits_BK)
        hee_BCHW = self._pgd.examples(student, strong, _ANYWHERE, seed=seed, passes=Passes())
        with torch.no_grad():
            self._seen = hee_BCHW, teacher(hee_BCHW).argmax(dim=1)
        return hee_BCHW

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        assert self._seen is not None, "examples come first"
        hee_BCHW, classes_B = self._seen
        assert adv_BCHW is hee_BCHW, "the teacher labelled other examples"
        return cross_entropy(share.gather(student(adv_BCHW)), share.gather(classes_B))


# Smallest share of height and width that a crop leaves, the noise's spread in the pixel range, and
# degrees of rotation: those of the authors' release, which takes images of 32×32 only.
_LEAST_SHARE, _SPREAD, _ANGLES = 0.95, 0.001, (-15, 0, 15)


def strong_augmentation(x_BCHW: Tensor, seed: int, place_B: Tensor) -> Tensor:
    """Crop, noise, mirror and rotate; all images alike but for the noise. B×C×H×W in [0, 1].

    Yuan et al., AAAI 2024, by their release: the middle 95 to 100 % of height and of width,
    stretched to the former size; noise 0.001·N(0, I), keyed by places in the whole batch; upside
    down, left to right, each with probability ½; rotated by −15°, 0° or 15°, black coming in.
    """
    drawn = torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tall, wide, upside_down, mirrored, turned = drawn.tolist()
    shares = [_LEAST_SHARE + (1 - _LEAST_SHARE) * each for each in (tall, wide)]
    x_BCHW = middle(x_BCHW, shares[0], shares[1])
    noise = KeyedRng(seed, "strong augmentation", place_B)
    noise_BCHW = noise.normal(tuple(x_BCHW.shape[1:]), x_BCHW.dtype)
    x_BCHW = (x_BCHW + _SPREAD * noise_BCHW).clamp(0, 1)
    flipped = [axis for axis, draw in ((2, upside_down), (3, mirrored)) if draw < 0.5]
    x_BCHW = x_BCHW.flip(flipped) if flipped else x_BCHW
    return rotated(x_BCHW, _ANGLES[int(turned * len(_ANGLES))])


def middle(x_BCHW: Tensor, tall: float, wide: float) -> Tensor:
    """The middle of the images, these shares of height and width, stretched to their size."""
    height, width = x_BCHW.shape[2:]
    rows, columns = max(1, int(height * tall)), max(1, int(width * wide))
    top, left = round((height - rows) / 2), round((width - columns) / 2)
    cut_BCHW = x_BCHW[:, :, top : top + rows, left : left + columns]
    return interpolate(cut_BCHW, size=(height, width), mode="bilinear", align_corners=False)


def rotated(x_BCHW: Tensor, degrees: float) -> Tensor:
    """Turned counter-clockwise about the centre to the nearest pixel, with black coming in."""
    if not degrees:
        return x_BCHW
    height, width = x_BCHW.shape[2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # In coordinates that run from −1 to 1 along either side.
    turn_23 = [[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]]
    turn_B23 = x_BCHW.new_tensor(turn_23).expand(len(x_BCHW), -1, -1)
    grid_BHW2 = affine_grid(turn_B23, list(x_BCHW.shape), align_corners=False)
    return grid_sample(x_BCHW, grid_BHW2, mode="nearest", align_corners=False)
