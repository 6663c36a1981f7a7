"""Finds the features that are not robust: the information bottleneck, FERD's equations 4 to 6.

arXiv 2509.20793, after Kim, Lee & Ro, NeurIPS 2021. Each channel of the teacher's features Z gets
as much noise as the prediction tolerates; channels that tolerate little hold the non-robust
features. Where the paper and the authors' release differ, each reading has a name in a mapping
below. Variances are those of Z in both: the paper writes Z_I, Z with noise, but its variance
exceeds the noise's own λ², so equation 6 would let every channel pass.

B batch, C channels of the features, H × W positions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from ferd_eval.attacks import frozen
from ferd_eval.errors import UserError
from ferd_train.config.checks import Checked, Count, NotNegative, OneOf, Positive, Share
from ferd_train.training.process_group import WHOLE, BatchShard

#: Shape of ε of equation 4: for each element (paper), or one for all positions of a channel
#: (release).
NOISES: Mapping[str, Callable[[Tensor], tuple[int, ...]]] = {
    "elementwise": lambda z_BCHW: tuple(z_BCHW.shape),
    "channel": lambda z_BCHW: (*z_BCHW.shape[:2], 1, 1),
}

# The spread of ε's mean over n positions.
_MEAN_SPREADS: Mapping[str, Callable[[int], float]] = {
    "elementwise": lambda positions: positions**-0.5,
    "channel": lambda positions: 1.0,
}

#: How much a channel counts in equation 5, by the number of channels of a sample, so that they add
#: up to their sum (paper), or to half their mean (release).
REGULARISERS: Mapping[str, Callable[[int], float]] = {
    "sum": lambda channels: 1.0,
    "half-mean": lambda channels: 0.5 / channels,
}

#: λ in equation 6: as learnt, before the softplus (paper), or after it (release).
MASK_SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {"raw": torch.clone, "softplus": softplus}

#: Range of the maximum in equation 6: the sample's channels (paper), the whole batch's (release),
#: or the channel alone. Where equation 5 is at its minimum, λ_k² ≤ v_k wherever noise hurts at all,
#: so that either maximum lets all channels pass; the channel's own variance tells them apart only
#: with a `mask_factor` below 1.
MASK_MAXIMA: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sample": lambda variance_BC: variance_BC.amax(dim=1, keepdim=True),
    "batch": lambda variance_BC: variance_BC.amax(),
    "channel": lambda variance_BC: variance_BC,
}


@dataclass(frozen=True)
class Bottleneck(Checked):
    """The bottleneck's constants and its operations on features.

    Attributes:
        noise: a name in `NOISES`.
        regulariser: a name in `REGULARISERS`. A sum is 2·C times half a mean, so `beta` belongs to
            the one it was chosen for.
        mask_scale: a name in `MASK_SCALES`. Before the softplus λ may be negative, and its square
            then grows as the noise shrinks.
        mask_maximum: a name in `MASK_MAXIMA`.
        mask_factor: of that maximum; 1 in the paper.
        mask_share: above 0, this share of a sample's channels, those with the smallest λ_k²/v_k, in
            place of equation 6.
        beta: weight of the regulariser; 0.3 in the release, the paper gives none.
        steps: Adam steps on the noise scale (release).
        lr: of Adam (release).
        guard: added to the variances before they are divided by.

    Raises:
        UserError: a name that is not known, or a number out of range.
    """

    noise: Annotated[str, OneOf(NOISES)] = "elementwise"
    regulariser: Annotated[str, OneOf(REGULARISERS)] = "half-mean"
    mask_scale: Annotated[str, OneOf(MASK_SCALES)] = "softplus"
    mask_maximum: Annotated[str, OneOf(MASK_MAXIMA)] = "sample"
    mask_factor: Positive = 1.0
    mask_share: Share = 0.0
    beta: NotNegative = 0.3
    steps: Count = 50
    lr: Positive = 0.1
    guard: Positive = 1e-10

    def variance(self, z_BCHW: Tensor) -> Tensor:
        """Variance of each channel over its positions, B×C, with the guard added.

        Raises:
            UserError: there is one position alone, which has no variance.
        """
        if z_BCHW.shape[2:].numel() < 2:
            raise UserError(
                "the features are 1×1, so their channels have no variance for the bottleneck; "
                "choose an earlier feature layer (synthesis.tap), or larger images."
            )
        z_BCHW = z_BCHW.detach()
        # In two passes, which on a CPU takes a tenth of torch.var's time.
        centred_BCHW = z_BCHW - z_BCHW.mean(dim=(2, 3), keepdim=True)
        return centred_BCHW.square_().mean(dim=(2, 3)) + self.guard

    def slope(
        self,
        tail: nn.Module,
        z_BCHW: Tensor,
        labels_B: Tensor,
        raw_scale_BC: Tensor,
        noise_BCHW: Tensor,
        variance_BC: Tensor,
    ) -> Tensor:
        """The gradient, in λ_r, of each sample's part of equation 5, B×C; λ = softplus(λ_r).

        That is CE(f_{l+}(Z_I), y) + β·R(v_k/λ_k² + log(λ_k²/v_k) − 1). Autograd runs on the tail
        alone: noise and regulariser, few numbers but 50 times, are differentiated by hand.

        Args:
            tail: features Z, B×C×H×W, to logits B×K.
            noise_BCHW: ε, B×C×H×W or B×C×1×1.
            variance_BC: v, from `variance`.
        """
        scale_BC = softplus(raw_scale_BC)
        informative_BCHW = torch.addcmul(z_BCHW, scale_BC[:, :, None, None], noise_BCHW)
        informative_BCHW.requires_grad_()
        ce = cross_entropy(tail(informative_BCHW), labels_B, reduction="sum")
        (by_informative_BCHW,) = torch.autograd.grad(ce, informative_BCHW)
        by_ce_BC = (by_informative_BCHW * noise_BCHW).sum(dim=(2, 3))
        weight = self.beta * REGULARISERS[self.regulariser](z_BCHW.shape[1])
        by_terms_BC = 2 / scale_BC * (1 - variance_BC / scale_BC.square())
        return by_ce_BC.add_(by_terms_BC, alpha=weight).mul_(raw_scale_BC.sigmoid())

    def noise_scale(
        self,
        tail: nn.Module,
        z_BCHW: Tensor,
        labels_B: Tensor,
        generator: torch.Generator,
        share: BatchShard = WHOLE,
    ) -> Tensor:
        """Minimise equation 5 over λ_r, from 0, with fresh noise at each step; returns λ_r, B×C.

        Z is fixed and only the tail runs. Where it begins with an average over the positions, Z and
        ε are averaged beforehand: the same in distribution, at almost no cost. The samples'
        objectives are summed, so that none depends on its neighbours; Adam would undo a mean's
        factor but for its own guard.
        """
        z_BCHW = z_BCHW.detach()
        variance_BC = self.variance(z_BCHW)
        shape_of_noise = NOISES[self.noise]
        spread = 1.0
        if _averages_first(tail):
            spread = _MEAN_SPREADS[self.noise](z_BCHW.shape[2:].numel())
            z_BCHW = z_BCHW.mean(dim=(2, 3), keepdim=True)
        with frozen(tail):
            raw_scale_BC = torch.zeros_like(variance_BC)
            adam = torch.optim.Adam([raw_scale_BC], lr=self.lr)
            for _ in range(self.steps):
                noise_BCHW = share.normal(shape_of_noise(z_BCHW), z_BCHW, generator) * spread
                raw_scale_BC.grad = self.slope(
                    tail, z_BCHW, labels_B, raw_scale_BC, noise_BCHW, variance_BC
                )
                adam.step()
        return raw_scale_BC

    def mask(self, raw_scale_BC: Tensor, z_BCHW: Tensor, share: BatchShard = WHOLE) -> Tensor:
        """Equation 6: the non-robust channels, B×C truth values, λ_k² < c · max Var."""
        variance_BC = share.gather(self.variance(z_BCHW))
        squared_BC = MASK_SCALES[self.mask_scale](share.gather(raw_scale_BC)).square()
        if self.mask_share:
            count = round(self.mask_share * squared_BC.shape[1])
            lowest = (squared_BC / variance_BC).argsort(dim=1, stable=True)[:, :count]
            mask_BC = torch.zeros_like(squared_BC, dtype=torch.bool).scatter(1, lowest, True)
        else:
            limits = MASK_MAXIMA[self.mask_maximum](variance_BC)
            mask_BC = squared_BC < self.mask_factor * limits
        return share.own(mask_BC)

    def non_robust(
        self,
        tail: nn.Module,
        z_BCHW: Tensor,
        labels_B: Tensor,
        generator: torch.Generator,
        share: BatchShard = WHOLE,
    ) -> tuple[Tensor, Tensor]:
        """Z_nr = mask · Z, B×C×H×W, and the mask, B×C. Gradients flow through Z, not the mask.

        Z and labels may be a process's `share` of a batch, and both results are of the same rows.
        """
        raw_scale_BC = self.noise_scale(tail, z_BCHW, labels_B, generator, share)
        mask_BC = self.mask(raw_scale_BC, z_BCHW, share)
        return z_BCHW * mask_BC[:, :, None, None].to(z_BCHW.dtype), mask_BC


def _averages_first(tail: nn.Module) -> bool:
    """Whether the tail uses only each channel's mean."""
    first = tail[0] if isinstance(tail, nn.Sequential) else tail
    return isinstance(first, nn.AdaptiveAvgPool2d) and first.output_size in (1, (1, 1))


#: As the paper writes it; its β is not given.
PAPER = Bottleneck("elementwise", "sum", "raw", "sample")
#: As the authors' release does it.
RELEASE = Bottleneck("channel", "half-mean", "softplus", "batch")
