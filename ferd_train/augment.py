"""Random crops and mirror images, keyed like everything random. B batch, C × H × W pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ferd_eval.attacks import Noise


def crop_and_flip(x_BCHW: Tensor, noise: Noise, padding: int, flip: bool) -> Tensor:
    """Shift each image by up to `padding` pixels (zeros come in) and mirror half of them."""
    random_B3 = noise.uniform((3,), torch.float64)
    if padding:
        _, _, height, width = x_BCHW.shape
        padded = pad(x_BCHW, (padding,) * 4)
        shift_B2 = (random_B3[:, :2] * (2 * padding + 1)).long()
        rows_BH = shift_B2[:, :1] + torch.arange(height, device=x_BCHW.device)
        columns_BW = shift_B2[:, 1:] + torch.arange(width, device=x_BCHW.device)
        image_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
        x_BHWC = padded.permute(0, 2, 3, 1)[
            image_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]
        ]
        x_BCHW = x_BHWC.permute(0, 3, 1, 2).contiguous()
    if flip:
        mirrored_B111 = (random_B3[:, 2] < 0.5)[:, None, None, None]
        x_BCHW = torch.where(mirrored_B111, x_BCHW.flip(-1), x_BCHW)
    return x_BCHW
