"""Save a network with the metadata that identifies it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.io.files import write_atomically
from ferd_eval.models.architectures.base import Architecture
from ferd_eval.models.classifier import Classifier
from ferd_eval.models.normalization import Normalization


def save_network(
    file: Path,
    network: nn.Module,
    arch: Architecture,
    normalization: Normalization | None,
    metadata: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write a network as safetensors that `build_classifier` reads back without being told.

    The file appears whole or not at all; equal networks make equal files, byte for byte.

    Args:
        file: where; its folder exists.
        network: one built by `arch`, or a `Classifier` around one.
        arch: recorded by name.
        normalization: what the network's images were normalised with; None for nothing.
        metadata: more to record, e.g. ``{"ferd.dataset": "cifar10"}``.
        half: store floating-point weights in half the space, as float16.

    Raises:
        UserError: the file cannot be written, or a weight does not fit into half precision.
    """
    if isinstance(network, Classifier):
        network = network.network
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    fit = arch.fit(tensors)
    assert fit.exact, f"{arch.name} did not build this network: {fit}"
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        for key, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{key} has values beyond half precision; save in full precision.")
    described = {
        "ferd.arch": arch.name,
        "ferd.num_classes": str(arch.num_classes),
        "ferd.in_channels": str(arch.in_channels),
        "ferd.normalization": json.dumps(normalization.to_json()) if normalization else "none",
        **(metadata or {}),
    }
    write_atomically(file, _in_order(safetensors.torch.save(tensors, metadata=described)))


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with sorted metadata: the library shuffles them by process.

    The format: length of the header as 8 bytes, a JSON header, then the numbers, 8-byte aligned.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]
