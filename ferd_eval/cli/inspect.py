"""``ferd-eval inspect``: the content of a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferd_eval.cli.options import config_options

if TYPE_CHECKING:
    from ferd_eval.models.checkpoint.load import Checkpoint

#: Keys of an unknown network that are shown on screen; JSON has all.
_MOST_KEYS = 60


@config_options(("key", "arch", "model_file", "normalize"), "Model")
def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A file of weights.")],
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    **flags: Any,
) -> None:
    """Show what a checkpoint holds and how it is read."""
    from ferd_eval.io.json import to_json

    described = _describe(checkpoint, **flags)
    if json:
        print(to_json(described), end="")
    else:
        _print_table(described)


def _describe(
    file: Path, key: str | None, arch: str | None, model_file: str | None, normalize: str | None
) -> dict[str, Any]:
    """Facts of the file and its network; of an unknown network its keys and shapes."""
    from ferd_eval.models import build_classifier
    from ferd_eval.models.architectures.registry import UnknownNetworkError
    from ferd_eval.models.checkpoint.load import load_checkpoint

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
            checkpoint, arch=arch, model_file=model_file, normalize=normalize or "auto"
        )
    except UnknownNetworkError as reason:
        return described | _unknown(checkpoint, str(reason))
    return described | facts.to_json()


def _unknown(checkpoint: Checkpoint, reason: str) -> dict[str, Any]:
    constants = checkpoint.embedded_normalization
    tensors = checkpoint.tensors.items()
    return {
        "architecture": None,
        "not_recognised": reason,
        "parameters": sum(t.numel() for _, t in tensors if t.is_floating_point()),
        "normalization": constants
        and dict(zip(("mean", "std"), map(list, constants), strict=True)),
        "tensors": {
            name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
            for name, t in tensors
        },
    }


def _print_table(described: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ferd_eval.report.run.provenance import fold_keys
    from ferd_eval.runtime.console import console

    shown = dict(described)
    tensors = shown.pop("tensors", {})
    if "unused_keys" in shown:
        shown["unused_keys"] = fold_keys(shown["unused_keys"])
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in shown.items():
        if value not in (None, [], {}, ""):
            table.add_row(name.replace("_", " "), Text(_text(value)))
    lines = [
        f"{name}  {'×'.join(map(str, each['shape'])) or 'scalar'}  {each['dtype']}"
        for name, each in tensors.items()
    ]
    if len(lines) > _MOST_KEYS:
        lines[_MOST_KEYS:] = [f"and {len(lines) - _MOST_KEYS} more: --json lists all"]
    if lines:
        table.add_row("tensors", Text("\n".join(lines)))
    console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
