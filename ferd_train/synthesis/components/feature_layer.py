"""A network cut in two after a named layer: images → features → logits.

FERD (arXiv 2509.20793, equations 4 to 7) works on ``Z = f_l(x)`` and runs ``f_{l+}``, the rest of
the network, again and again on changed Z. `split` gives both halves; they share the network's
layers, with their weights, buffers and modes, and together compute the same to the bit. A family
becomes splittable by a function registered with `steps_of`.

B batch, C channels, H × W positions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor, nn

from ferd_eval.models import Classifier
from ferd_eval.models.architectures.cnn28 import Cnn28Module
from ferd_eval.models.architectures.mobilenetv2 import MobileNetV2Module
from ferd_eval.models.architectures.preactresnet import PreActResNetModule
from ferd_eval.models.architectures.resnet import ResNet
from ferd_eval.models.architectures.wideresnet import WideResNetModule
from ferd_train.config.unfit import UnfitError

_OWN_FAMILY = "take a teacher of one of the project's own families (ferd-eval ls models)"


@dataclass(frozen=True, eq=False)
class Steps:
    """The layers of a network in order.

    Attributes:
        features: layers that map B×C×H×W to B×C×H×W by name; the network may be cut after each.
        head: the rest, from the last features to the logits.
        default_layer: where FERD cuts unless told otherwise.
    """

    features: Mapping[str, nn.Module]
    head: nn.Sequential
    default_layer: str


@singledispatch
def steps_of(network: nn.Module) -> Steps:
    """The steps of a network; one function for each family, found by the network's class.

    Raises:
        UnfitError: the family is not known.
    """
    raise UnfitError(
        [
            f"where to cut a {type(network).__name__} into features and the rest, for the "
            "uniformity term, is not known"
        ],
        {"synthesis.lambda_uni": "0"},
        [_OWN_FAMILY],
    )


@steps_of.register
def _(network: WideResNetModule) -> Steps:
    stages = ("conv1", "block1", "block2", "block3", "bn1")
    return Steps(_children(network, stages, relu=True), _pooled(network.fc), "bn1")


@steps_of.register
def _(network: ResNet) -> Steps:
    before = _children(network, ("conv1", "bn1"), relu=True)
    stages = _children(network, network.stages)
    return Steps(before | stages, _pooled(network.linear), network.stages[-1])


@steps_of.register
def _(network: PreActResNetModule) -> Steps:
    features = _children(network, ("conv1", *network.stages))
    if network.bn is not None:
        features |= _children(network, ("bn",), relu=True)
    return Steps(features, _pooled(network.linear), network.stages[-1])


@steps_of.register
def _(network: MobileNetV2Module) -> Steps:
    stem = _children(network, ("conv1", "bn1"), relu=True)
    layers = _children(network, ("layers", "conv2", "bn2"))
    # As in a WideResNet: the last convolution and its normalisation, before its ReLU.
    return Steps(stem | layers | {"relu2": nn.ReLU()}, _pooled(network.linear), "bn2")


@steps_of.register
def _(network: Cnn28Module) -> Steps:
    features: dict[str, nn.Module] = {}
    for i in (1, 2, 3):
        features |= _children(network, (f"conv{i}", f"bn{i}"))
        features[f"relu{i}"] = nn.ReLU()
    return Steps(features, nn.Sequential(nn.Flatten(1), network.linear), "bn3")


def _children(
    network: nn.Module, names: tuple[str, ...] | list[str], *, relu: bool = False
) -> dict[str, nn.Module]:
    """Layers of the network by name, with a ReLU of ours after them if `relu`."""
    layers = {name: network.get_submodule(name) for name in names}
    return layers | {"relu": nn.ReLU()} if relu else layers


def _pooled(linear: nn.Linear) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)


class _Normalize(nn.Module):
    """The normalisation inside a `Classifier`, with the same operations."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, mean_C: Tensor, std_C: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean_C11", mean_C.view(-1, 1, 1))
        self.register_buffer("std_C11", std_C.view(-1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return (x_BCHW - self.mean_C11) / self.std_C11


@dataclass(frozen=True, eq=False)
class SplitNetwork:
    """Two halves of one network, which share its layers; `layer` names the trunk's last one.

    Attributes:
        trunk: images B×C×H×W to features B×C×H×W: ``f_l``.
        tail: features to logits B×K: ``f_{l+}``.
    """

    trunk: nn.Sequential
    tail: nn.Sequential
    layer: str

    def __call__(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features, B×C×H×W, and logits, B×K, in one pass."""
        features_BCHW: Tensor = self.trunk(x_BCHW)
        return features_BCHW, self.tail(features_BCHW)


def split(model: nn.Module, layer: str | None = None) -> SplitNetwork:
    """Cut a network, or a `Classifier` around one, after a feature layer.

    Args:
        model: images in [0, 1], B×C×H×W, to logits B×K.
        layer: its name; None for the family's own: a WideResNet after the final batch normalisation
            before its ReLU, ResNet and PreActResNet after the last stage, MobileNet-V2 and cnn28
            after the last batch normalisation before its ReLU.

    Raises:
        UnfitError: the family is not known, or has no such layer.
    """
    network = model.network if isinstance(model, Classifier) else model
    steps = steps_of(network)
    layer = steps.default_layer if layer is None else layer
    if layer not in steps.features:
        raise UnfitError(
            [
                f"a {type(network).__name__} has no feature layer {layer!r}, only these: "
                f"{', '.join(steps.features)}"
            ],
            {"synthesis.tap": steps.default_layer},
        )
    cut = list(steps.features).index(layer) + 1
    layers = [*steps.features.values()]
    if isinstance(model, Classifier) and model.mean_C is not None and model.std_C is not None:
        layers.insert(0, _Normalize(model.mean_C, model.std_C))
        cut += 1
    return SplitNetwork(
        nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:], *steps.head), layer
    )


def require_positions(model: nn.Module, layer: str | None, x_BCHW: Tensor) -> None:
    """Check on images that the features of a frozen model have more than one position to vary over.

    Raises:
        UnfitError: they have one; the last earlier layer with more is named.
    """
    network = model.network if isinstance(model, Classifier) else model
    halves = split(model, layer)
    layers = list(halves.trunk)
    names = [*steps_of(network).features]
    names = names[: names.index(halves.layer) + 1]
    earlier = None
    with torch.no_grad():
        for place, each in enumerate(layers, len(names) - len(layers)):
            x_BCHW = each(x_BCHW)
            if place >= 0 and x_BCHW.shape[2:].numel() > 1:
                earlier = names[place]
    if x_BCHW.shape[2:].numel() < 2:
        raise UnfitError(
            [
                f"the features of layer {halves.layer} are 1×1, so their channels have no variance "
                "for the bottleneck"
            ],
            {"synthesis.tap": earlier} if earlier else {"synthesis.lambda_uni": "0"},
            ["take larger images"],
        )
