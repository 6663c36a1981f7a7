"""The parameter-free shortcut against slices."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from ferd_eval.models.architectures.resnet import ZeroPadShortcut


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_picks_every_second_pixel_and_its_gradient_keeps_the_layout(side, layout):
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    ours = x.contiguous(memory_format=layout).requires_grad_()
    theirs = x.clone().requires_grad_()
    y, expected = ZeroPadShortcut(3, 7, 2)(ours), pad(theirs[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
    assert torch.equal(y, expected)
    above = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(y, ours, above)
    (known,) = torch.autograd.grad(expected, theirs, above)
    assert torch.equal(slope, known)
    assert slope.is_contiguous(memory_format=layout)
