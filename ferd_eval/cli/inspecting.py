"""What ``inspect`` does once torch may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ferd_eval.checkpoint import load_checkpoint
from ferd_eval.cli.console import console
from ferd_eval.models import build_classifier
from ferd_eval.output import to_json
from ferd_eval.report.provenance import fold_keys


def inspect_checkpoint(
    file: Path, arch: str | None, model_file: str | None, normalize: str, *, as_json: bool
) -> None:
    """Print the facts of a checkpoint as a table or as JSON."""
    checkpoint = load_checkpoint(file)
    _, facts = build_classifier(checkpoint, arch=arch, model_file=model_file, normalize=normalize)
    described: dict[str, Any] = {
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "bytes": checkpoint.size,
        "format": checkpoint.format,
        "unwrapped": checkpoint.unwrapped,
        "ignored": list(checkpoint.ignored),
        "metadata": dict(checkpoint.metadata),
        **facts.to_json(),
    }
    if as_json:
        print(to_json(described), end="")
        return
    described["unused_keys"] = fold_keys(facts.unused_keys)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in described.items():
        if value not in (None, [], {}, ""):
            table.add_row(key.replace("_", " "), Text(_say(value)))
    console().print(table)


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_say(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_say, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
