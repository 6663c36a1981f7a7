"""Arithmetic of lower precision for networks that propose.

What they propose the network under test judges, so their arithmetic decides how fast an attack is
and how well it steers, never a verdict. B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ferd_eval.attacks import SearchNetwork, frozen


class SearchPrecision(ABC):
    """An arithmetic for passes that propose."""

    #: Logits may differ by this much, relative to the largest; more is not rounding.
    rounding: ClassVar[float]

    @abstractmethod
    def is_native(self, device: torch.device) -> bool:
        """Whether the hardware computes in it; elsewhere it is emulated, slowly, or left out."""

    @abstractmethod
    def likeness(self, network: nn.Module, x_BCHW: Tensor) -> SearchNetwork:
        """The network in this arithmetic; `network` itself stays as it is. Raises anything."""


class TF32(SearchPrecision):
    """Products of single-precision numbers rounded to ten bits, as tensor cores make them."""

    rounding = 1e-2

    def is_native(self, device: torch.device) -> bool:
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)

    def likeness(self, network: nn.Module, x_BCHW: Tensor) -> SearchNetwork:
        return SearchNetwork(network, _tf32)


class BFloat16(SearchPrecision):
    """Layers between the first and the last in bfloat16.

    The first stays in single precision because bfloat16 has eight bits and would round pixels by up
    to half a level of 255, where steps are of a few levels; the last because searches compare
    margins.
    """

    rounding = 5e-2

    def is_native(self, device: torch.device) -> bool:
        if device.type == "cuda":
            return torch.cuda.get_device_capability(device) >= (8, 0)
        if device.type != "cpu":
            return False
        # Older versions of torch do not say; there nothing is lost but time.
        known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(bool(has) for name, has in known.items() if name.endswith("bf16"))

    def likeness(self, network: nn.Module, x_BCHW: Tensor) -> SearchNetwork:
        network = copy.deepcopy(network).eval().requires_grad_(False)
        layers = _in_order(network, x_BCHW[:1])
        ends = {layers[0], layers[-1]} if layers else set()
        for layer in dict.fromkeys(layers):
            if layer in ends:
                layer.forward = _InSinglePrecision(layer.forward, x_BCHW.device.type)
            elif type(layer) in (nn.Conv2d, nn.Linear):  # else casts its weights in every pass
                layer.weight.data = layer.weight.data.bfloat16()
        return SearchNetwork(_Autocast(network, x_BCHW.device.type))


#: By the name of `--search-precision`.
PRECISIONS: Mapping[str, SearchPrecision] = {"tf32": TF32(), "bf16": BFloat16()}


@contextmanager
def _tf32() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class _Autocast(nn.Module):
    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self._kind = network, kind

    def forward(self, x_BCHW: Tensor) -> Tensor:
        with torch.autocast(self._kind, torch.bfloat16):
            logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK.float()


class _InSinglePrecision:
    """A layer's `forward` outside autocast."""

    def __init__(self, forward: Any, kind: str) -> None:
        self._forward, self._kind = forward, kind

    def __call__(self, x: Tensor) -> Tensor:
        with torch.autocast(self._kind, enabled=False):
            out: Tensor = self._forward(x.float())
        return out


def _in_order(network: nn.Module, x_1CHW: Tensor) -> list[nn.Module]:
    """Convolutions and linear maps in the order in which they are called."""
    called: list[nn.Module] = []
    kinds = nn.Linear | nn.modules.conv._ConvNd
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    try:
        with frozen(network), torch.no_grad():
            network(x_1CHW)
    finally:
        for hook in hooks:
            hook.remove()
    return called
