"""Attacks inside training, built on the benchmark's. B batch, K classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ferd_eval.attacks import PGD, Problem
from ferd_eval.attacks.problem import Objective

#: Size of the Gaussian start of KL attacks, in the pixel range (Zhang et al., ICML 2019).
_START_SCALE = 0.001


@dataclass(frozen=True)
class KLPGD(PGD):
    """PGD on KL(p(x) ‖ p(x_adv)) from a small Gaussian start, the inner attack of TRADES.

    Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019,
    algorithm 1. The clean output is computed once, for the network does not change meanwhile.
    """

    family = "kl-pgd"
    objective_name = "KL from the clean output"

    def start(self, problem: Problem) -> Tensor:
        """x + 0.001·N(0, I), clipped to the pixel range: at x itself the gradient vanishes."""
        x_BCHW = problem.x_BCHW
        noise_BCHW = problem.noise.normal(tuple(x_BCHW.shape[1:]), x_BCHW.dtype)
        return torch.clamp(x_BCHW + _START_SCALE * noise_BCHW, 0, 1)

    def objective(self, problem: Problem) -> Objective:
        clean_BK = problem.clean_logits_BK.log_softmax(dim=1)
        return lambda logits_BK: F.kl_div(
            logits_BK.log_softmax(dim=1), clean_BK, reduction="none", log_target=True
        ).sum(dim=1)
