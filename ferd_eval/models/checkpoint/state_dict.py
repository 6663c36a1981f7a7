"""A state dict without wrappers: prefixes, counters and normalisation layers are taken off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ferd_eval.models.checkpoint.formats import Refused
from ferd_eval.models.checkpoint.stored_networks import PREFIXES, StoredNetwork, tensor_count

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]

#: Names under which normalisation layers keep their constants.
_MEAN_STD_NAMES = (
    ("mean", "std"),
    ("means", "sds"),
    ("means", "stds"),
    ("mu", "sigma"),
    ("mu", "std"),
    ("_mean", "_std"),
    ("norm_mean", "norm_std"),
    ("new_mean", "new_std"),  # MadryLab's robustness
)


#: What ``thop.profile`` registers in every module: counts of it, no part of it.
_COUNTS = ("total_ops", "total_params")


def _on_cpu(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, half precision raised to float32."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.to(torch.float32)
    return tensor.to("cpu")


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite weights."""
    bad = {
        key: int((~torch.isfinite(tensor)).sum())
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    }
    if bad:
        first = next(iter(bad))
        raise Refused(
            f"has NaN or infinite weights: {bad[first]} of {tensors[first].numel()} in {first}, "
            f"{sum(bad.values())} in {len(bad)} of {len(tensors)} tensors; training diverged or "
            "the file is damaged: use an earlier checkpoint"
        )


@dataclass
class Cleaning:
    """A state dict without prefixes and normalisation layers, taken off innermost last."""

    tensors: dict[str, Tensor]
    as_stored: dict[str, Tensor]  #: the same under their own names, with all that was taken off
    prefixes: tuple[str, ...]  #: wrappers that may precede all keys and say nothing of the network
    removed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    normalization: MeanStd | None = None

    @classmethod
    def of(cls, network: StoredNetwork, stored: Mapping[str, Tensor]) -> Cleaning:
        """Clean a network, which lies among the tensors `stored`, until nothing is left to take."""
        last_names = {key: key.rpartition(".")[2] for key in stored}
        as_stored = {k: _on_cpu(t) for k, t in stored.items() if last_names[k] not in _COUNTS}
        counts = [last_names[key] for key in network.keys]
        own = [f"{part}." for part in network.prefix.split(".")[:-1]]
        cleaned = cls(
            {key: as_stored[key] for key in network.keys if key in as_stored},
            as_stored,
            (*PREFIXES, *(prefix for prefix in own if prefix not in PREFIXES)),
            ignored=[f"{c} ({tensor_count(counts.count(c))})" for c in _COUNTS if c in counts],
        )
        while cleaned._drop_counter() or cleaned._strip_prefix() or cleaned._pull_normalization():
            pass
        if not cleaned.tensors:
            raise Refused("holds no network parameters; save model.state_dict() instead")
        _require_finite(cleaned.tensors)
        return cleaned

    def _drop_counter(self) -> bool:
        """Averaging wrappers (torch.optim.swa_utils) count their updates beside the network."""
        if "n_averaged" not in self.tensors or len(self.tensors) == 1:
            return False
        del self.tensors["n_averaged"]
        self.ignored.append("n_averaged (1 tensor)")
        return True

    def _strip_prefix(self) -> bool:
        for prefix in self.prefixes:
            if self.tensors and all(key.startswith(prefix) for key in self.tensors):
                self._keep(prefix)
                return True
        return False

    def _keep(self, prefix: str) -> None:
        self.tensors = {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }
        self.removed.append(prefix)

    def _pull_normalization(self) -> bool:
        if self.normalization is not None:
            return False
        parents = dict.fromkeys(_parent(key) for key in self.tensors)
        for parent in (p for p in parents if p.count(".") <= 1):
            for names in _MEAN_STD_NAMES:
                keys = [parent + name for name in names]
                constants = [_channel_constants(self.tensors.get(key)) for key in keys]
                if constants[0] is None or constants[1] is None:
                    continue
                mean, std = constants[0], constants[1]
                alone = sum(_parent(key) == parent for key in self.tensors) == 2
                rest = len(self.tensors) - 2
                if len(mean) != len(std) or not (alone or not parent) or rest == 0:
                    continue
                if min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
                    raise Refused(f"has a normalisation layer with {keys[1]} = {list(std)}")
                self.normalization = (mean, std)
                for key in keys:
                    del self.tensors[key]
                self.removed.append(f"{parent}{names[0]}/{names[1]}")
                # nn.Sequential(normalise, network)
                if parent == "0." and all(key.startswith("1.") for key in self.tensors):
                    self._keep("1.")
                return True
        return False


def _parent(key: str) -> str:
    """Return a key without its last name, with the dot, e.g. ``"0."`` or ``""``."""
    head, dot, _ = key.rpartition(".")
    return head + dot


def _channel_constants(tensor: Tensor | None) -> tuple[float, ...] | None:
    """Return C numbers from a tensor of shape C, C×1×1 or 1×C×1×1 with C at most 4."""
    if tensor is None or tensor.is_complex() or not 1 <= tensor.numel() <= 4:
        return None
    channels = tensor.numel()
    if tuple(tensor.shape) not in ((channels,), (channels, 1, 1), (1, channels, 1, 1)):
        return None
    # Constants are typed as 0.4914 and stored as float32: the shortest spelling is what was typed.
    return tuple(float(str(value)) for value in tensor.flatten().to(torch.float32).numpy())
