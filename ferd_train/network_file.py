"""The network that a run leaves: equal networks make equal files, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ferd_eval.models import Architecture, save_network
from ferd_eval.outcomes import write_atomically


def write_network(
    file: Path, network: nn.Module, architecture: Architecture, metadata: Mapping[str, str]
) -> None:
    """Save a network that takes images in [0, 1], readable by `ferd_eval` without being told.

    Raises:
        UserError: the file cannot be written.
    """
    save_network(file, network, architecture, normalization=None, metadata=metadata)
    write_atomically(file, _in_order(file.read_bytes()))


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
