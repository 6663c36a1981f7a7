"""The contrast of CMI: new images differ from each other and from those made before.

Fang et al., "Contrastive model inversion for data-free knowledge distillation", IJCAI 2021, and its
public code. B batch, D numbers in a feature, P in its projection, R remembered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize, relu

from ferd_eval.attacks import KeyedRng


class Head(nn.Module):
    """D features to P numbers of length 1: two layers with a ReLU between."""

    def __init__(self, features: int, projected: int, seed: int) -> None:
        """Weights as torch's own layers draw them, from `seed`."""
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(features, features), nn.Linear(features, projected)

    def forward(self, feature_BD: Tensor) -> Tensor:
        projected_BP: Tensor = self.second(relu(self.first(feature_BD)))
        return normalize(projected_BP, dim=1)


class Ring:
    """Features of both views of the last images, the oldest overwritten first; on the CPU."""

    def __init__(self, capacity: int, features: int) -> None:
        """Empty, for `capacity` images with 2·D numbers each."""
        self._capacity, self._next = capacity, 0
        self._kept_R2D = torch.zeros(0, 2 * features)

    def __len__(self) -> int:
        return len(self._kept_R2D)

    def add(self, both_B2D: Tensor) -> None:
        both_B2D = both_B2D.detach().cpu().float()[-self._capacity :]
        free = self._capacity - len(self)
        self._kept_R2D = torch.cat([self._kept_R2D, both_B2D[:free]])
        over_B2D = both_B2D[free:]
        place_B = (self._next + torch.arange(len(over_B2D))) % self._capacity
        self._kept_R2D[place_B] = over_B2D
        self._next = (self._next + len(over_B2D)) % self._capacity

    def draw(self, count: int, stream: torch.Generator, device: torch.device) -> Tensor:
        """At most `count` different ones, R×2D."""
        place_R = torch.randperm(len(self), generator=stream)[:count]
        return self._kept_R2D[place_R].to(device)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._kept_R2D, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept_R2D, self._next = state["kept"], int(state["next"])


def contrast(
    head: Head, local_BD: Tensor, global_BD: Tensor, cached_R2D: Tensor, temperature: float
) -> Tensor:
    """L_cr, a scalar: each local view should be closest to the global view of its image.

    The means over the new and over the remembered images are added, so that the many remembered
    ones do not thin out the gradient of the new; without any, the first alone. Global features
    receive no gradient; `cached_R2D` has both features, local first, of images made before; the
    cosines are divided by the temperature.
    """
    cached_local_RD, cached_global_RD = cached_R2D.chunk(2, dim=1)
    local_NP = head(torch.cat([local_BD, cached_local_RD]))
    with torch.no_grad():
        global_NP = head(torch.cat([global_BD, cached_global_RD]))
    cosine_NN = local_NP @ global_NP.T
    same_N = torch.arange(len(cosine_NN), device=cosine_NN.device)
    loss_N = cross_entropy(cosine_NN / temperature, same_N, reduction="none")
    total = loss_N[: len(local_BD)].mean()
    return total + loss_N[len(local_BD) :].mean() if len(cached_R2D) else total


#: Shares of the area that a part may have, and of width to height.
AREAS, RATIOS = (0.25, 1.0), (3 / 4, 4 / 3)


def random_parts(x_BCHW: Tensor, noise: KeyedRng) -> Tensor:
    """A random part of each image, enlarged to the image's size, mirrored by a coin.

    As the usual random resized crop, but parts may begin between pixels, and one that does not fit
    is cut to the side of the image, where the usual crop draws another.
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
