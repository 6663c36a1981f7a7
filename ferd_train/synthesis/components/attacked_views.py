"""Images as a teacher that was trained on attacked images knows them.

PGD-AT shows a network attacked images alone, so the statistics in its batch norms, and its idea of
a class, are of such. Scoring a generator's images after one step of the attack asks for images that
keep their class under it. Not found in work on data-free robust distillation; this project's.

B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_train.synthesis.base import Setting

# Thirds and tenths add up to whole numbers.
_ROUNDING = 1e-9


def is_due(number: int, share: float) -> bool:
    """Whether an epoch or a row, counted from 1, is among a share of them, evenly spread."""
    return int(number * share + _ROUNDING) > int((number - 1) * share + _ROUNDING)


def attacking(
    setting: Setting, teacher: nn.Module, labels_B: Tensor, share: float
) -> Callable[[Tensor], Tensor]:
    """`attacked_views` of a share of a batch, for the process's own images of these labels.

    Rows are spread over the batch, whose last ones are held out. No share leaves images alone.
    """
    if not share:
        return lambda x_BCHW: x_BCHW
    own_B = setting.share.own(labels_B)
    due = [is_due(place + 1, share) for place in setting.share.places(own_B).tolist()]
    attacked_B = torch.tensor(due, device=own_B.device)
    return lambda x_BCHW: attacked_views(teacher, x_BCHW, own_B, attacked_B, setting.eps)


def attacked_views(
    teacher: nn.Module, x_BCHW: Tensor, labels_B: Tensor, attacked_B: Tensor, eps: Fraction
) -> Tensor:
    """Images with some of them moved by one step of FGSM, B×C×H×W in [0, 1].

    The move is a constant: gradients reach the images as if they had not been moved.

    Args:
        teacher: frozen.
        attacked_B: truth values, which images to move.
        eps: length of the step, in the pixel range.
    """
    still_BCHW = x_BCHW.detach()
    start_ACHW = still_BCHW[attacked_B].requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy(teacher(start_ACHW), labels_B[attacked_B], reduction="sum")
        (gradient_ACHW,) = torch.autograd.grad(loss, start_ACHW)
    moved_BCHW = still_BCHW.clone()
    moved_BCHW[attacked_B] = (start_ACHW.detach() + float(eps) * gradient_ACHW.sign()).clamp(0, 1)
    return x_BCHW + (moved_BCHW - still_BCHW)
