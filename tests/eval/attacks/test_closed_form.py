"""Attacks on a linear network, whose L∞ radius is known exactly.

Class k's logit is the sum of row k of the image. Moving against label y toward rival j changes the
margin by twice the row's width for every unit of ε, whatever j is, so the nearest rival is the one
with the next largest logit, and the radius of an image is margin / (2 · width).
"""

import pytest
import torch
from torch import nn

from ferd_eval.attacks import CW, FGSM, PGD, Batch, Passes, TargetedPGD, Threat

K, WIDTH = 10, 6


class RowSums(nn.Module):
    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x_BCHW):
        return self.scale * x_BCHW[:, 0].sum(dim=2)


def batch_of_every_class() -> tuple[Batch, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = 0.4 + 0.1 * torch.rand(40, 1, K, WIDTH, generator=generator, dtype=torch.float64)
    labels_B = torch.arange(40) % K
    # One rival ahead of the others by more than start noise can make up: a walk on the margin
    # climbs toward whichever rival leads where it starts.
    rivals_B = (labels_B + 1 + torch.arange(40) // K) % K
    x_BCHW[torch.arange(40), 0, rivals_B] += 0.17
    x_BCHW[torch.arange(40), 0, labels_B] += 0.24
    logits_BK = RowSums()(x_BCHW)
    assert torch.equal(logits_BK.argmax(1), labels_B)
    top_B2 = logits_BK.topk(2, dim=1).values
    radius_B = (top_B2[:, 0] - top_B2[:, 1]) / (2 * WIDTH)
    return Batch(x_BCHW, labels_B, torch.arange(40), logits_BK), radius_B


def one(batch: Batch, i: int) -> Batch:
    pick = slice(i, i + 1)
    return Batch(
        batch.x_BCHW[pick], batch.labels_B[pick], batch.indices_B[pick], batch.clean_logits_BK[pick]
    )


@pytest.mark.parametrize("attack", [FGSM(), PGD(), CW(), CW(kappa=50.0), TargetedPGD()])
def test_success_just_above_the_radius_and_failure_just_below(attack):
    batch, radius_B = batch_of_every_class()
    for i in range(len(radius_B)):
        for factor, falls in ((1.001, True), (0.999, False)):
            threat = Threat(f"{float(radius_B[i]) * factor:.12f}")
            verdicts = attack(RowSums(), one(batch, i), threat, seed=0, passes=Passes())
            fooled = (verdicts.adv_pred_R != batch.labels_B[i]).any()
            assert bool(fooled) is falls, (i, factor)


def test_the_margin_after_a_successful_walk_is_the_closed_form():
    batch, radius_B = batch_of_every_class()
    threat = Threat("0.02")
    verdicts = CW()(RowSums(), batch, threat, seed=0, passes=Passes())
    expected_B = 2 * WIDTH * (radius_B - 0.02)
    torch.testing.assert_close(verdicts.margin_R, expected_B)
    torch.testing.assert_close(verdicts.linf_R, torch.full((40,), 0.02, dtype=torch.float64))


def test_targeted_attack_reaches_exactly_the_targets_within_its_radius():
    batch, _ = batch_of_every_class()
    threat = Threat("0.03")
    verdicts = TargetedPGD()(RowSums(), batch, threat, seed=0, passes=Passes())
    reached_BM = (verdicts.adv_pred_R == verdicts.targets_R).reshape(40, K - 1)
    targets_BM = verdicts.targets_R.reshape(40, K - 1)
    logits_BK = batch.clean_logits_BK
    label_logit_B1 = logits_BK.gather(1, batch.labels_B.unsqueeze(1))
    # The walk toward t raises row t and lowers every other row: t wins if it gains on all of them.
    gain_BM = logits_BK.gather(1, targets_BM) + 2 * WIDTH * 0.03 - label_logit_B1
    assert torch.equal(reached_BM, gain_BM > 0)


def test_pixels_at_the_border_are_clipped():
    x_BCHW = torch.ones(1, 1, K, WIDTH, dtype=torch.float64)
    x_BCHW[0, 0, 1:] = 0.0
    batch = Batch(x_BCHW, torch.tensor([0]), torch.tensor([0]), RowSums()(x_BCHW))
    verdicts = PGD()(RowSums(), batch, Threat("0.3"), seed=0, passes=Passes())
    adv = verdicts.adv_RCHW
    assert adv.min() >= 0
    assert adv.max() <= 1
    torch.testing.assert_close(verdicts.margin_R, torch.tensor([WIDTH * 0.4], dtype=torch.float64))
