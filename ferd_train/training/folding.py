"""Batch norms multiplied into the convolutions before them, for passes in evaluation mode.

Attacks and targets ask a network that stands still for logits, or for gradients of images alone. A
batch norm after a convolution is then a second affine map, and both together are one: the same
function but for rounding, in two thirds of the time on a CPU. C channels, O maps of a convolution,
I of its input, h × w of its kernel.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_eval.models import Classifier
from ferd_eval.models.frozen import frozen

# Logits of both may differ by this much, relative to the largest one; more is not rounding.
_ROUNDING = 1e-4


class FoldedNetwork(nn.Module):
    """A network as it is in evaluation mode; it follows the network's weights at `refresh`.

    Layers that are not folded are the network's own. One that cannot be traced stays as it is.

    Attributes:
        folded: the convolutions with a batch norm in them.
    """

    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
        """Fold what can be; both must agree on two images of this shape, C×H×W."""
        super().__init__()
        self.network, self.folded = _folded(network)
        self.refresh()
        drawn_BCHW = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
        probe_BCHW = drawn_BCHW.to(next(network.parameters()))
        with frozen(network), frozen(self), torch.no_grad():
            ours_BK, theirs_BK = self(probe_BCHW), network(probe_BCHW)
        if not torch.allclose(ours_BK, theirs_BK, 0, _ROUNDING * float(theirs_BK.abs().max())):
            self.network, self.folded = network, []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK

    def refresh(self) -> None:
        """Take over the network's present weights and statistics."""
        for layer in self.folded:
            layer.refresh()


class FoldedConv2d(nn.Module):
    """A convolution and the batch norm after it."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        # In a tuple, so that they are none of this module's layers.
        self._both = convolution, norm
        # Parameters, as whoever holds a network still compares its buffers before and after.
        self.weight = nn.Parameter(torch.empty_like(convolution.weight), requires_grad=False)
        self.bias = nn.Parameter(torch.empty_like(norm.running_mean), requires_grad=False)

    def forward(self, x_BIHW: Tensor) -> Tensor:
        x_BOHW: Tensor = self._both[0]._conv_forward(x_BIHW, self.weight, self.bias)
        return x_BOHW

    @torch.no_grad()
    def refresh(self) -> None:
        convolution, norm = self._both
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale_C = (norm.running_var + norm.eps).rsqrt_()
        if norm.weight is not None:
            scale_C.mul_(norm.weight)
        torch.mul(convolution.weight, scale_C[:, None, None, None], out=self.weight)
        before_C, after_C = (0 if each.bias is None else each.bias for each in (convolution, norm))
        self.bias.copy_((before_C - norm.running_mean) * scale_C + after_C)


class _Tracer(fx.Tracer):
    """Batch norms of our own are layers too."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, _BatchNorm) or super().is_leaf_module(module, qualified_name)


def _folded(network: nn.Module) -> tuple[nn.Module, list[FoldedConv2d]]:
    """A network that shares the unfolded layers, and the folded ones."""
    if isinstance(network, Classifier):  # its checks of shapes cannot be traced
        shell = copy.copy(network)
        inner, layers = _folded(network.network)
        shell._modules = {**network._modules, "network": inner}
        return shell, layers
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        graph = _Tracer().trace(network)
    except Exception:  # a network that cannot be traced raises anything at all
        return network, []
    finally:
        for module, training in modes:
            module.training = training
    traced = fx.GraphModule(network, graph)
    layers = [_fold(traced, *pair) for pair in _pairs(traced)]
    _rectify_in_place(traced)
    traced.recompile()
    return traced, layers


def _pairs(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Convolutions whose output only a batch norm sees, each run once."""
    runs = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    pairs = []
    for node in traced.graph.nodes:
        if node.op != "call_module" or runs[node.target] > 1:
            continue
        norm, before = traced.get_submodule(node.target), node.args[0]
        if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            continue
        if not (isinstance(before, fx.Node) and before.op == "call_module"):
            continue
        convolution: Any = traced.get_submodule(str(before.target))
        once = runs[before.target] == 1 and len(before.users) == 1
        if type(convolution) is nn.Conv2d and once:
            pairs.append((before, node))
    return pairs


def _fold(traced: fx.GraphModule, before: fx.Node, after: fx.Node) -> FoldedConv2d:
    convolution, norm = (traced.get_submodule(str(node.target)) for node in (before, after))
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, _BatchNorm)
    layer = FoldedConv2d(convolution, norm)
    traced.set_submodule(str(before.target), layer)
    after.replace_all_uses_with(before)
    traced.graph.erase_node(after)
    traced.delete_submodule(str(after.target))
    return layer


def _rectify_in_place(traced: fx.GraphModule) -> None:
    """ReLUs of what nobody else sees write into their input's memory.

    Neither folded convolutions nor sums need their output again for a gradient.
    """
    for node in traced.graph.nodes:
        if node.target not in (functional.relu, torch.relu):
            continue
        before = node.args[0]
        is_folded = before.op == "call_module" and isinstance(
            traced.get_submodule(before.target), FoldedConv2d
        )
        if len(before.users) == 1 and (is_folded or before.target is operator.add):
            node.target, node.args, node.kwargs = torch.relu_, (before,), {}
