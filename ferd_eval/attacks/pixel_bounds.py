"""Gradients of pixels that are exactly 0 or 1, for networks that clamp their input.

At its bound a clamp has two one-sided derivatives, 0 and 1, and frameworks choose: torch 2.14
takes 0 for scalar bounds where torch 2.13 takes 1, and tensor bounds, `minimum` and `maximum` share
it out, ½ each. Where 0 is chosen, an attack cannot move black or white pixels, and robustness looks
higher than it is. Attacks therefore take the gradient of such networks a little inside the pixel
range, where it is the same on every version; what decides is the network at the true image.
B batch, C channels, H × W pixels.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ferd_eval.attacks.passes import Passes
from ferd_eval.runtime.device import seed_torch

#: Distances from 0 and 1 that are tried, in units of the pixel range. The second is for networks
#: that convert their input to half precision, the last for bfloat16.
DISTANCES = (2.0**-20, 2.0**-11, 2.0**-8)

#: A gradient is cut at the bound where it is at most this share of the one inside.
_CUT = 0.75

#: A network cuts gradients if it does so for this share of a channel's pixels at 0, or at 1, and
#: for less than half as many elsewhere.
_MOST = 0.5

_IMAGES, _SEED = 2, 0

_known: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], float]] = WeakKeyDictionary()


def inside(x_BCHW: Tensor, distance: float) -> Tensor:
    """The images with every pixel at least `distance` from 0 and 1; gradients pass unchanged."""
    if not distance:
        return x_BCHW
    with torch.no_grad():
        move_BCHW = x_BCHW.clamp(distance, 1 - distance) - x_BCHW
    return x_BCHW + move_BCHW


def distance_inside(model: nn.Module, x_BCHW: Tensor, passes: Passes) -> float:
    """How far inside the pixel range a network's gradients are to be taken; 0 for plain networks.

    The model maps images in [0, 1] to logits, is frozen, and gradients are enabled. Decided once
    for it and a shape, precision and device, on fixed random images of which half the pixels are 0
    or 1, so that all images, processes and repetitions get the same answer. Torch's random state is
    left as it was. The cost is added to `passes`.
    """
    of_network = _known.setdefault(model, {})
    kind = (x_BCHW.shape[1:], x_BCHW.dtype, x_BCHW.device)
    if kind not in of_network:
        of_network[kind] = _measure(model, x_BCHW)
        cost = _IMAGES * (1 + len(DISTANCES))
        passes.forward, passes.backward = passes.forward + cost, passes.backward + cost
    return of_network[kind]


def _measure(model: nn.Module, like_BCHW: Tensor) -> float:
    generator = torch.Generator().manual_seed(_SEED)
    shape = (_IMAGES, *like_BCHW.shape[1:])
    drawn_BCHW = torch.rand(shape, generator=generator, dtype=torch.float64)
    # A quarter each of 0 and 1; the other half between ¼ and ¾.
    x_BCHW = torch.where(drawn_BCHW < 0.25, 0.0, torch.where(drawn_BCHW > 0.75, 1.0, drawn_BCHW))
    x_BCHW = x_BCHW.to(like_BCHW)
    at_bound_BCHW = _gradient(model, x_BCHW).abs()
    shares: dict[float, tuple[float, float]] = {}
    for distance in DISTANCES:
        inside_BCHW = _gradient(model, inside(x_BCHW, distance)).abs()
        cut_BCHW = (inside_BCHW > 0) & (at_bound_BCHW <= _CUT * inside_BCHW)
        at_0, at_1 = (float(_share(cut_BCHW, x_BCHW == bound).max()) for bound in (0, 1))
        elsewhere = float(_share(cut_BCHW, (x_BCHW > 0) & (x_BCHW < 1)).max())
        shares[distance] = (at_0, at_1) if elsewhere < max(at_0, at_1) / 2 else (0.0, 0.0)
    most = [max(of_side) for of_side in zip(*shares.values(), strict=True)]
    cuts = [side for side, share in enumerate(most) if share >= _MOST]
    # The shortest way that is nearly as good as any, on each side that cuts.
    good = [d for d in DISTANCES if all(shares[d][side] >= 0.9 * most[side] for side in cuts)]
    return good[0] if cuts and good else 0.0


def _gradient(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Of a fixed random combination of the logits, B×C×H×W; one image at a time fits anywhere."""
    return torch.cat([_gradient_of_one(model, x_1CHW) for x_1CHW in torch.split(x_BCHW, 1)])


def _gradient_of_one(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    leaf_BCHW = x_BCHW.detach().requires_grad_()
    with torch.random.fork_rng():
        seed_torch(_SEED)  # a randomised network is to draw the same numbers each time
        logits_BK = model(leaf_BCHW)
    generator = torch.Generator().manual_seed(_SEED)
    weight_K = torch.randn(logits_BK.shape[1], generator=generator).to(logits_BK)
    (gradient_BCHW,) = torch.autograd.grad((logits_BK * weight_K).sum(), leaf_BCHW)
    return gradient_BCHW


def _share(cut_BCHW: Tensor, where_BCHW: Tensor) -> Tensor:
    """Of the pixels in question, the share that is cut, by channel."""
    count_C = where_BCHW.sum(dim=(0, 2, 3)).clamp(min=1)
    return (cut_BCHW & where_BCHW).sum(dim=(0, 2, 3)) / count_C
