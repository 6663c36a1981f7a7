"""A network without its weights, and how files of weights are recognised.

A family of networks is one subclass of `Architecture` in a file of its own, registered in
`ferd_eval.models.architectures.registry`. An architecture is a handful of numbers: it can be
named, built, and proposed from the keys and shapes of a state dict. Legend: K classes, C channels.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError, listed

_SHOWN_PER_KIND = 2

#: Key → shape, of a file.
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ArchitectureRow:
    """One line of ``ferd-eval ls models``."""

    name: str  #: as ``--arch`` takes it; upper-case letters stand for numbers or names to fill in
    family: str  #: the class of networks it belongs to
    source: str  #: whose key layout it reads
    input: str  #: the images it takes
    notes: str = ""  #: anything a user should know


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """A network without its weights; equal architectures build equal modules."""

    num_classes: int  #: K, the number of logits
    in_channels: int = 3  #: C of the images

    rows: ClassVar[tuple[ArchitectureRow, ...]] = ()
    #: Spellings of the name, lower case with hyphens; its groups are named like fields.
    pattern: ClassVar[re.Pattern[str]]
    stem_key: ClassVar[str] = "conv1.weight"  #: key of the first convolution
    head_key: ClassVar[str] = "linear.weight"  #: key of the last linear layer
    #: Other spellings of the keys: pattern and replacement, applied to every key of a file.
    key_aliases: ClassVar[tuple[tuple[re.Pattern[str], str], ...]] = ()
    #: Keys that public files of this family carry and the forward pass never uses.
    unused_keys: ClassVar[re.Pattern[str] | None] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that `parse` reads back."""

    @property
    def summary(self) -> str:
        """What tells this architecture from its twins, where its name does not."""
        return ""

    @property
    def twins(self) -> tuple[Self, ...]:
        """Architectures with the same keys and another forward pass, which only ``--arch`` chooses.

        The likeliest come first.
        """
        return ()

    @property
    def public_twins(self) -> tuple[Self, ...]:
        """Those of `twins` of which there are public files: a user is told before anything runs."""
        return ()

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with fresh weights, in train mode."""

    @classmethod
    def parse(cls, name: str, *, num_classes: int, in_channels: int) -> Self | None:
        """The architecture of a name (lower case, hyphens); None if it is not of this family."""
        match = cls.pattern.fullmatch(name)
        fields = None if match is None else cls.from_name(match)
        if fields is None:
            return None
        return cls(**fields, num_classes=num_classes, in_channels=in_channels)

    @classmethod
    def propose(cls, shapes: Shapes) -> Iterator[Self]:
        """Yield the architectures that a file with these keys and shapes could hold."""
        stem, head = shape_of(shapes, cls.stem_key, 4), shape_of(shapes, cls.head_key, 2)
        fields = cls.from_shapes(shapes, stem[0]) if stem and head else None
        if stem and head and fields is not None:
            yield cls(**fields, num_classes=head[0], in_channels=stem[1])

    @classmethod
    def from_name(cls, match: re.Match[str]) -> dict[str, Any] | None:
        """The fields of this family from a match of `pattern`, None if no network has them.

        A group of digits is a number; any other one is a switch that is on.
        """
        said = {name: text for name, text in match.groupdict().items() if text is not None}
        return {name: int(text) if text.isdecimal() else True for name, text in said.items()}

    @classmethod
    @abstractmethod
    def from_shapes(cls, shapes: Shapes, width: int) -> dict[str, Any] | None:
        """The fields of this family from keys and shapes; `width` is that of the stem."""

    @classmethod
    def canonical(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of a file to those of `build`."""
        renamed: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            new = key
            for pattern, replacement in cls.key_aliases:
                new = pattern.sub(replacement, new)
            renamed[key if new in tensors else new] = tensor
        return renamed

    def fit(self, tensors: Mapping[str, Tensor]) -> Fit:
        """Compare the keys and shapes of a file with those of this network."""
        with torch.device("meta"):
            expected = self.build().state_dict()
        return Fit.between(expected, self.canonical(tensors), self.unused_keys)


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file and the parameters of a network differ."""

    missing: tuple[str, ...]  #: keys the file lacks (batch counters may be absent)
    unexpected: tuple[str, ...]  #: keys of the file that the network lacks
    #: Key, shape in the file, shape in the network.
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unused: tuple[str, ...]  #: keys of the file that are known to play no part in the forward pass
    matched: int  #: number of keys that both have, with the same shape

    @classmethod
    def between(
        cls,
        expected: Mapping[str, Tensor],
        given: Mapping[str, Tensor],
        unused_keys: re.Pattern[str] | None = None,
        optional_keys: re.Pattern[str] | None = None,
    ) -> Fit:
        """Compare two state dicts by key and shape."""
        extra = [key for key in given if key not in expected]
        unused = [key for key in extra if unused_keys and unused_keys.match(key)]
        return cls(
            missing=tuple(
                key
                for key in expected
                if key not in given
                and not key.endswith("num_batches_tracked")
                and not (optional_keys and optional_keys.fullmatch(key))
            ),
            unexpected=tuple(key for key in extra if key not in unused),
            misshaped=tuple(
                (key, tuple(given[key].shape), tuple(tensor.shape))
                for key, tensor in expected.items()
                if key in given and given[key].shape != tensor.shape
            ),
            unused=tuple(unused),
            matched=sum(
                key in given and given[key].shape == tensor.shape
                for key, tensor in expected.items()
            ),
        )

    @property
    def exact(self) -> bool:
        """Whether the file fills the network, no more and no less."""
        return self.distance == 0

    @property
    def distance(self) -> int:
        """Number of keys that differ."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    @property
    def likeness(self) -> float:
        """Share of all keys, of the file and of the network, that agree; 1 if exact."""
        return self.matched / max(1, self.matched + self.distance)

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"{_keys(len(self.missing))} missing ({_some(self.missing)})")
        if self.unexpected:
            parts.append(f"{_keys(len(self.unexpected))} unexpected ({_some(self.unexpected)})")
        if self.misshaped:
            shown = [
                f"{key} is {_times(have)} in the file and {_times(want)} in the network"
                for key, have, want in self.misshaped
            ]
            parts.append(f"{_keys(len(shown))} of another shape ({_some(shown)})")
        return "; ".join(parts) or "nothing differs"


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Give `network` (which may be on the meta device) copies of `tensors`, as float32.

    The keys must fit; keys that the network lacks are left out, and batch counters that the file
    lacks are zero.

    UserError: a weight is stored as integers, booleans or complex numbers.
    """
    weights: dict[str, Tensor] = {}
    expected = network.state_dict()
    _require_real(expected, tensors)
    for key, current in expected.items():
        if key in tensors:
            given = tensors[key]
            dtype = torch.float32 if given.is_floating_point() else given.dtype
            weights[key] = given.to(dtype, copy=True).contiguous()
        elif key.endswith("num_batches_tracked"):
            weights[key] = torch.zeros((), dtype=torch.int64)
        else:
            weights[key] = current
    network.load_state_dict(weights, assign=True)
    return network


def _require_real(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Refuse what stands for a real number and is none: a cast would make up weights."""
    wrong = [
        key
        for key, current in expected.items()
        if key in tensors
        and (tensors[key].is_complex() or current.is_floating_point())
        and not tensors[key].is_floating_point()
    ]
    if wrong:
        kind = str(tensors[wrong[0]].dtype).removeprefix("torch.")
        more = f" and {_keys(len(wrong) - 1)} more" if len(wrong) > 1 else ""
        raise UserError(
            f"{wrong[0]}{more} hold {kind}, where the network has real numbers: the weights are "
            "quantised or cast, and how they are read back is not in them. Save them as floating "
            "point."
        )


def children_count(shapes: Shapes, parent: str) -> int:
    """Return how many consecutive children ``parent.0``, ``parent.1``, … have keys."""
    prefix = f"{parent}."
    found = {key[len(prefix) :].split(".", 1)[0] for key in shapes if key.startswith(prefix)}
    count = 0
    while str(count) in found:
        count += 1
    return count


def shape_of(shapes: Shapes, key: str, ndim: int) -> tuple[int, ...] | None:
    """Return the shape under `key` if it has `ndim` dimensions, none of them empty."""
    shape = shapes.get(key)
    return shape if shape is not None and len(shape) == ndim and min(shape) > 0 else None


def _keys(count: int) -> str:
    return f"{count} key{'s' * (count != 1)}"


def _some(items: tuple[str, ...] | list[str]) -> str:
    return listed(items, _SHOWN_PER_KIND)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"
