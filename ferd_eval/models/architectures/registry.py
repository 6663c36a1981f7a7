"""All named architectures, and detection of the one that fits a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.models.architectures.base import Architecture, ArchitectureRow, Fit
from ferd_eval.models.architectures.cnn28 import Cnn28
from ferd_eval.models.architectures.external import EXTERNAL_ROWS
from ferd_eval.models.architectures.mobilenetv2 import MobileNetV2
from ferd_eval.models.architectures.preactresnet import PreActResNet
from ferd_eval.models.architectures.resnet import CifarResNet, ThinResNet
from ferd_eval.models.architectures.wideresnet import WideResNet

#: A new family is a subclass of `Architecture` named here.
FAMILIES: tuple[type[Architecture], ...] = (
    CifarResNet,
    ThinResNet,
    PreActResNet,
    WideResNet,
    MobileNetV2,
    Cnn28,
)

_HEAD = re.compile(r"(^|\.)(fc|linear|heads?|classifier|logits|output)\.([\w]+\.)?weight$")


class UnknownNetworkError(UserError):
    """No architecture, or more than one, has these keys and shapes."""


# Stand-ins for the patterns in the catalogue when the nearest architecture is looked for.
_EXAMPLES = {"wideresnet-D-K": ("wideresnet-28-10", "wideresnet-34-10"), "cnn28-W": ("cnn28-16",)}


def list_architectures() -> tuple[ArchitectureRow, ...]:
    """Return the catalogue: own families first, then the outside sources."""
    return (*(row for family in FAMILIES for row in family.rows), *EXTERNAL_ROWS)


def build_architecture(name: str, *, num_classes: int, in_channels: int = 3) -> Architecture:
    """The architecture of a name; its ``build()`` gives the network.

    Args:
        name: as in `list_architectures`, e.g. ``"resnet18"``.
        num_classes: K, the number of logits.
        in_channels: C of the images.

    Raises:
        UserError: no family knows the name, or the numbers make no network.
    """
    if num_classes < 1 or in_channels < 1:
        raise UserError(
            f"--arch {name} cannot have {num_classes} classes and {in_channels} input channels; "
            "both must be at least 1."
        )
    spelling = name.strip().lower().replace("_", "-")
    for family in FAMILIES:
        found = family.parse(spelling, num_classes=num_classes, in_channels=in_channels)
        if found is not None:
            return found
    hint = did_you_mean(spelling, [*_own_names(), *(row.name for row in EXTERNAL_ROWS)])
    raise UserError(f"--arch {name} is not a known architecture.{hint}")


@dataclass(frozen=True)
class Match:
    """An architecture that a file fits, and how well."""

    architecture: Architecture
    fit: Fit


def detect(tensors: Mapping[str, Tensor], *, name: str | None = None) -> Match:
    """Find the architecture whose keys and shapes are exactly those of `tensors`.

    Args:
        tensors: a clean state dict.
        name: only this architecture is considered (``--arch``).

    Raises:
        UnknownNetworkError: none fits, with the nearest one and what differs; or several do, with
            all.
        UserError: `name` is not known, or does not fit.
    """
    proposals = _propose(tensors)
    if name is not None:
        # Classes and channels do not matter for the name; those of the file are taken.
        named = build_architecture(name, num_classes=1)
        # Twins have the same keys, and so the same fit.
        proposals = [
            replace(match, architecture=each)
            for match in proposals
            for each in (match.architecture, *match.architecture.twins)
            if each.name == named.name
        ]
        if not proposals:
            proposals = [_match(_with_sizes_of(tensors, named.name), tensors)]
    exact = [match for match in proposals if match.fit.exact]
    if len(exact) == 1:
        return exact[0]
    if exact:
        listed = "; ".join(f"{m.architecture.name} ({m.architecture.summary})" for m in exact)
        raise UnknownNetworkError(
            f"the checkpoint fits {len(exact)} architectures, which share their keys and differ "
            f"in the forward pass: {listed}. Name one with --arch."
        )
    if name is not None:
        nearest = max(proposals, key=lambda match: match.fit.likeness)
        raise UserError(
            f"the checkpoint does not fit --arch {name}: {nearest.fit}. Leave --arch out to "
            "detect the architecture, or give a factory with --model-file."
        )
    if not proposals:
        proposals = [_match(_with_sizes_of(tensors, example), tensors) for example in _own_names()]
    nearest = max(proposals, key=lambda match: match.fit.likeness)
    if nearest.fit.matched == 0:
        raise UnknownNetworkError(
            f"no known architecture has any of the checkpoint's {len(tensors)} keys (first "
            f"{next(iter(tensors))!r}); give a factory with --model-file FILE.py:FACTORY, or name "
            "an outside network with --arch (see 'ferd-eval ls models')."
        )
    raise UnknownNetworkError(
        f"no known architecture fits the checkpoint; the nearest is {nearest.architecture.name}, "
        f"where {nearest.fit}. Name one with --arch (see 'ferd-eval ls models'), or give a "
        "factory with --model-file FILE.py:FACTORY."
    )


def _own_names() -> list[str]:
    """Return names that can be built, one or more per line of the catalogue."""
    return [
        name
        for family in FAMILIES
        for row in family.rows
        for name in _EXAMPLES.get(row.name, (row.name,))
    ]


def _propose(tensors: Mapping[str, Tensor]) -> list[Match]:
    matches = []
    for family in FAMILIES:
        shapes = {key: tuple(t.shape) for key, t in family.canonical(tensors).items()}
        matches += [_match(proposal, tensors) for proposal in family.propose(shapes)]
    return matches


def _match(architecture: Architecture, tensors: Mapping[str, Tensor]) -> Match:
    return Match(architecture, architecture.fit(tensors))


def _with_sizes_of(tensors: Mapping[str, Tensor], name: str) -> Architecture:
    """Build `name` with the channels of the first convolution and the outputs of the last layer."""
    channels = guess_in_channels(tensors)
    return build_architecture(
        name,
        num_classes=guess_num_classes(tensors) or 10,
        in_channels=3 if channels is None else channels,
    )


def guess_num_classes(tensors: Mapping[str, Tensor]) -> int | None:
    """Outputs of the last linear layer, None if there is no matrix.

    Safetensors files are sorted by name, so a layer that is named as a head goes before the order.
    """
    matrices = [key for key, t in tensors.items() if t.ndim == 2 and t.numel() > 0]
    heads = [key for key in matrices if _HEAD.search(key)]
    return tensors[(heads or matrices)[-1]].shape[0] if matrices else None


def guess_in_channels(tensors: Mapping[str, Tensor]) -> int | None:
    """Inputs of the first convolution, None if there is none.

    Only a stem has fewer than five input channels without being depthwise, which has one.
    """
    filters = [t for t in tensors.values() if t.ndim == 4 and t.numel() > 0]
    stems = [t for t in filters if t.shape[1] in (2, 3, 4)]
    return (stems or filters)[0].shape[1] if filters else None
