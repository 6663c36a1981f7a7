"""Parts of images, enlarged to the whole: the local views of CMI. B batch, C × H × W pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ferd_eval.attacks import Noise

#: Shares of the area that a part may have, and of width to height.
AREAS, RATIOS = (0.25, 1.0), (3 / 4, 4 / 3)


def random_parts(x_BCHW: Tensor, noise: Noise) -> Tensor:
    """Of each image a random part, as large as the image, mirrored by a coin.

    As the random resized crop of the usual libraries, with parts that may begin between pixels; one
    that does not fit is cut to the side of the image, where those draw another.
    """
    drawn_B5 = noise.uniform((5,), torch.float64).to(x_BCHW.device)
    area_B = AREAS[0] + (AREAS[1] - AREAS[0]) * drawn_B5[:, 0]
    low, high = (math.log(ratio) for ratio in RATIOS)
    ratio_B = torch.exp(low + (high - low) * drawn_B5[:, 1])
    width_B = torch.sqrt(area_B * ratio_B).clamp(max=1)
    height_B = torch.sqrt(area_B / ratio_B).clamp(max=1)
    left_B = (1 - width_B) * drawn_B5[:, 2]
    top_B = (1 - height_B) * drawn_B5[:, 3]
    box_B4 = torch.stack([left_B, top_B, width_B, height_B], dim=1)
    parts_BCHW = enlarge(x_BCHW, box_B4)
    mirrored_B111 = (drawn_B5[:, 4] < 0.5)[:, None, None, None]
    return torch.where(mirrored_B111, parts_BCHW.flip(-1), parts_BCHW)


def enlarge(x_BCHW: Tensor, box_B4: Tensor) -> Tensor:
    """Boxes of the images (left, top, width, height, in shares of the side), sampled bilinearly."""
    left_B, top_B, width_B, height_B = box_B4.to(x_BCHW).unbind(dim=1)
    # From the whole, in -1 to 1, to the box.
    map_B23 = x_BCHW.new_zeros(len(x_BCHW), 2, 3)
    map_B23[:, 0, 0], map_B23[:, 0, 2] = width_B, 2 * left_B + width_B - 1
    map_B23[:, 1, 1], map_B23[:, 1, 2] = height_B, 2 * top_B + height_B - 1
    grid_BHW2 = affine_grid(map_B23, list(x_BCHW.shape), align_corners=False)
    return grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
