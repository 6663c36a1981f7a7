"""Random crops and flips, against a search of all the images that may come out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from ferd_eval.attacks import KeyedRng
from ferd_train.training.augmentation import crop_and_flip

N, C, H, W = 900, 2, 5, 7


def outcomes(image: np.ndarray, padding: int, flip: bool) -> list[np.ndarray]:
    """Every shift of an image on a black ground, then every mirrored one; one image at a time."""
    ground = np.zeros((C, H + 2 * padding, W + 2 * padding), image.dtype)
    ground[:, padding : padding + H, padding : padding + W] = image
    shifted = [
        ground[:, top : top + H, left : left + W]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    return shifted + [crop[:, :, ::-1] for crop in shifted] * flip


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(N, C, H, W, generator=torch.Generator().manual_seed(0)) + 0.01


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (1, True), (2, True)])
def test_every_outcome_and_no_other_equally_often(x, padding, flip):
    augmented = crop_and_flip(x, KeyedRng(0, "augment", torch.arange(N)), padding, flip).numpy()
    counts = np.zeros((2 * padding + 1) ** 2 * (1 + flip))
    for image, result in zip(x.numpy(), augmented, strict=True):
        matches = [np.array_equal(result, other) for other in outcomes(image, padding, flip)]
        assert sum(matches) == 1
        counts[matches.index(True)] += 1
    assert stats.chisquare(counts).pvalue > 0.001


def test_neither_leaves_the_images(x):
    assert torch.equal(crop_and_flip(x, KeyedRng(0, "augment", torch.arange(N)), 0, False), x)


def test_an_image_is_augmented_alike_in_any_batch(x):
    whole = crop_and_flip(x, KeyedRng(4, "augment", torch.arange(N)), 2, True)
    some = torch.randperm(N, generator=torch.Generator().manual_seed(2))[:50]
    alone = crop_and_flip(x[some], KeyedRng(4, "augment", some), 2, True)
    assert torch.equal(alone, whole[some])


def test_epochs_differ(x):
    one, other = (
        crop_and_flip(x, KeyedRng(s, "augment", torch.arange(N)), 2, True) for s in (0, 1)
    )
    assert (one != other).flatten(1).any(1).float().mean() > 0.9


def test_gradients_go_back_to_the_pixels_they_came_from(x):
    """Where a pixel is still to be seen, its gradient is its own; where not, it has none."""
    leaf = x[:20].clone().requires_grad_()
    seen = crop_and_flip(leaf, KeyedRng(1, "augment", torch.arange(20)), 2, True)
    (gradient,) = torch.autograd.grad(seen.square().sum(), leaf)
    stayed = gradient != 0
    torch.testing.assert_close(gradient[stayed], 2 * x[:20][stayed])
    torch.testing.assert_close((x[:20] * stayed).sum(), seen.detach().sum())
