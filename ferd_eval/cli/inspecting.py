"""What ``inspect`` does once torch may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ferd_eval.io.json import to_json
from ferd_eval.models import build_classifier
from ferd_eval.models.architectures.registry import UnknownNetworkError
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.report.run.provenance import fold_keys
from ferd_eval.runtime.console import console

#: Keys of an unknown network that are shown on screen; JSON has all.
_MOST_KEYS = 60


def inspect_checkpoint(
    file: Path,
    key: str | None,
    arch: str | None,
    model_file: str | None,
    normalize: str,
    *,
    as_json: bool,
) -> None:
    """Print the facts of a checkpoint as a table or as JSON.

    Of a network that is not known, its keys and shapes are facts, too.
    """
    checkpoint = load_checkpoint(file, key=key)
    described: dict[str, Any] = {
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "bytes": checkpoint.size,
        "format": checkpoint.format,
        "key": checkpoint.key,
        "choice": checkpoint.choice,
        "unwrapped": checkpoint.unwrapped,
        "ignored": list(checkpoint.ignored),
        "metadata": dict(checkpoint.metadata),
    }
    try:
        _, facts = build_classifier(
            checkpoint, arch=arch, model_file=model_file, normalize=normalize
        )
    except UnknownNetworkError as reason:
        described |= _unknown(checkpoint, str(reason))
    else:
        described |= facts.to_json()
    if as_json:
        print(to_json(described), end="")
        return
    if "unused_keys" in described:
        described["unused_keys"] = fold_keys(described["unused_keys"])
    tensors = described.pop("tensors", {})
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in described.items():
        if value not in (None, [], {}, ""):
            table.add_row(name.replace("_", " "), Text(_say(value)))
    if tensors:
        table.add_row("tensors", Text("\n".join(_lines(tensors))))
    console().print(table)


def _unknown(checkpoint: Checkpoint, reason: str) -> dict[str, Any]:
    """What can be said of a network that nobody knows."""
    constants = checkpoint.embedded_normalization
    return {
        "architecture": None,
        "not_recognised": reason,
        "parameters": sum(t.numel() for t in checkpoint.tensors.values() if t.is_floating_point()),
        "normalization": constants
        and dict(zip(("mean", "std"), map(list, constants), strict=True)),
        "tensors": {
            name: {
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
            }
            for name, tensor in checkpoint.tensors.items()
        },
    }


def _lines(tensors: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"{name}  {'×'.join(map(str, each['shape'])) or 'scalar'}  {each['dtype']}"
        for name, each in tensors.items()
    ]
    if len(lines) > _MOST_KEYS:
        lines[_MOST_KEYS:] = [f"and {len(lines) - _MOST_KEYS} more: --json lists all"]
    return lines


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_say(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_say, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
