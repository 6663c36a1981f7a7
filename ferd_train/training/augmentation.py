"""Random crops and flips, keyed. B batch, C × H × W pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ferd_eval.attacks import KeyedRng
from ferd_train.config.checks import Checked, CountFromZero


@dataclass(frozen=True)
class AugmentationRecipe(Checked):
    """Augmentation of training images.

    Attributes:
        crop_padding: random-crop padding in pixels; 0 for no cropping.
        flip: mirror images at random.
    """

    crop_padding: CountFromZero = 4
    flip: bool = True

    def __call__(self, x_BCHW: Tensor, seed: int, place_B: Tensor) -> Tensor:
        noise = KeyedRng(seed, "augment", place_B)
        return crop_and_flip(x_BCHW, noise, self.crop_padding, self.flip)


def crop_and_flip(x_BCHW: Tensor, noise: KeyedRng, padding: int, flip: bool) -> Tensor:
    """Shift each image by up to `padding` pixels (zeros come in) and mirror half of them."""
    random_B3 = noise.uniform((3,), torch.float64)
    if padding:
        _, channels, height, width = x_BCHW.shape
        padded = pad(x_BCHW, (padding,) * 4)
        shift_B2 = (random_B3[:, :2] * (2 * padding + 1)).long()
        rows_BH = shift_B2[:, :1] + torch.arange(height, device=x_BCHW.device)
        columns_BW = shift_B2[:, 1:] + torch.arange(width, device=x_BCHW.device)
        # Flat indices into the padded image: one gather, whose result and gradients have the
        # memory layout that convolutions want.
        place_BP = (rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]).flatten(1)
        place_BCP = place_BP[:, None].expand(-1, channels, -1)
        x_BCHW = padded.flatten(2).gather(2, place_BCP).view(x_BCHW.shape)
    if flip:
        mirrored_B111 = (random_B3[:, 2] < 0.5)[:, None, None, None]
        x_BCHW = torch.where(mirrored_B111, x_BCHW.flip(-1), x_BCHW)
    return x_BCHW
