"""Adversarial weight perturbation: the gradient is taken where the weights do worse.

Wu, Xia and Wang, "Adversarial weight perturbation helps robust generalization", NeurIPS 2020: the
weights are moved, layer by layer, to raise the loss, and the step is that of the moved weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ferd_train.training.seams import Remembering

# Less than any gradient that says something; dividing a norm by it stays finite.
_TINY = 1e-20


@contextmanager
def perturbed_weights(
    network: nn.Module, size: float, tallies: Iterable[Remembering] = ()
) -> Iterator[None]:
    """Within the block each weight w is w + γ·‖w‖/‖g‖·g, g being its present gradient.

    Weights are the parameters of more than one dimension, those of convolutions and linear layers;
    the rest stays, and so does a weight whose gradient is 0 or missing. Norms are of whole tensors.
    The block may replace the gradients. After it weights, buffers and tallies are what they were,
    to the bit, so that the one pass before it is all that running statistics and tallies have seen.

    Deviations from the authors' code, as copies of it show it (the paper's equations were not read
    again): their running statistics are the moved network's, but it is the unmoved one that is
    attacked and handed out; their step decays the moved weights, and takes the move back afterwards
    by subtraction, which rounds.

    Args:
        size: γ; 0.005 to 0.01 are usual.
        tallies: whatever else a pass through the network changes.
    """
    weights = [each for each in network.parameters() if each.ndim > 1 and each.grad is not None]
    moved = [*weights, *network.buffers()]
    kept = [each.detach().clone() for each in moved]
    tallied = [(each, copy.deepcopy(each.state_dict())) for each in tallies]
    with torch.no_grad():
        for weight in weights:
            assert weight.grad is not None
            scale = size * weight.norm() / weight.grad.norm().clamp(min=_TINY)
            weight.add_(scale * weight.grad)
    try:
        yield
    finally:
        with torch.no_grad():
            for each, before in zip(moved, kept, strict=True):
                each.copy_(before)
        for tally, state in tallied:
            tally.load_state_dict(state)
