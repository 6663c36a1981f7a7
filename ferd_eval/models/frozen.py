"""Hold a network still while it is attacked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients of parameters, and a promise that nothing has changed after.

    On leaving, also after an exception, every module's mode and every ``requires_grad`` flag is
    what it was and torch's global random state too. Buffers (batch-norm statistics) are asserted
    unmoved: a network that updates them in evaluation mode would be another network afterwards.

    Raises:
        AssertionError: a buffer changed its value.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(name, buffer, buffer.clone()) for name, buffer in model.named_buffers()]
    model.eval()
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
            yield
        for name, buffer, before in buffers:
            assert torch.equal(buffer, before) or bool(before.isnan().any()), (
                f"buffer {name} changed while the network was attacked in evaluation mode"
            )
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
