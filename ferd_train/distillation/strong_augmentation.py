"""DFHL's strong augmentation, for images of any size. B batch, C channels, H × W pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from ferd_eval.attacks import Noise

# Smallest share of height and width that a crop leaves, the noise's spread in the pixel range, and
# degrees of rotation: those of the authors' release, which takes images of 32×32 only.
_LEAST_SHARE, _SPREAD, _ANGLES = 0.95, 0.001, (-15, 0, 15)


def strong_augmentation(x_BCHW: Tensor, seed: int, place_B: Tensor) -> Tensor:
    """Crop, noise, mirror and rotate; all images alike but for the noise. B×C×H×W in [0, 1].

    Yuan et al., AAAI 2024, by their release: the middle 95 to 100 % of height and of width,
    stretched to the former size; noise 0.001·N(0, I); upside down, left to right, each with
    probability ½; rotated by −15°, 0° or 15°, black coming in.

    Args:
        x_BCHW: images in [0, 1].
        seed: of this batch's draw.
        place_B: places in the whole batch, which noise is keyed by.
    """
    drawn = torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tall, wide, upside_down, mirrored, turned = drawn.tolist()
    shares = [_LEAST_SHARE + (1 - _LEAST_SHARE) * each for each in (tall, wide)]
    x_BCHW = middle(x_BCHW, shares[0], shares[1])
    noise = Noise(seed, "strong augmentation", place_B)
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
