"""Arithmetic precision of training. Validation is always exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch

from ferd_eval.runtime.device import exact_arithmetic


@contextmanager
def _tf32() -> Iterator[None]:
    """Products of single-precision numbers rounded to ten bits, where the device can."""
    with exact_arithmetic():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        yield


@contextmanager
def _bfloat16(device: torch.device) -> Iterator[None]:
    """Layers compute in bfloat16 where torch knows that to be safe; weights stay single."""
    with _tf32(), torch.autocast(device.type, torch.bfloat16):
        yield


#: By name, as in recipes.
PRECISIONS: Mapping[str, Callable[[torch.device], AbstractContextManager[None]]] = {
    "float32": lambda device: exact_arithmetic(),
    "tf32": lambda device: _tf32(),
    "bfloat16": _bfloat16,
}


def memory_format(precision: str, device: torch.device) -> torch.memory_format:
    """Channels last on CPUs and where tensor cores compute, contiguous elsewhere."""
    fast = device.type == "cpu" or (device.type == "cuda" and precision != "float32")
    return torch.channels_last if fast else torch.contiguous_format
