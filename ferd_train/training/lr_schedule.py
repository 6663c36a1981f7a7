"""Learning rate schedules."""

from __future__ import annotations

import math

#: Share of the run with a rising learning rate.
_RISE = 0.3


def one_cycle(progress: float) -> float:
    """Learning rate as a share of its peak, for the share of the run that is done (0 to 1).

    Up from 0 in a line over the first 30 %, then down to 0 along half a cosine; the momentum
    stays. After Smith & Topin, "Super-convergence", 2018, with both ends at 0.
    """
    if progress < _RISE:
        return progress / _RISE
    return 0.5 * (1 + math.cos(math.pi * (progress - _RISE) / (1 - _RISE)))


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0, for the share of the run that is done (0 to 1).

    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without
    restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))
