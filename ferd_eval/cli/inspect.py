"""``ferd-eval inspect``: what a file of weights is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A file of weights.")],
    key: Annotated[
        str | None, typer.Option(help="Which network, where the file holds several.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="A name of `ls models`.")] = None,
    model_file: Annotated[
        str | None, typer.Option(metavar="FILE.py:FACTORY", help="Your own network.")
    ] = None,
    normalize: Annotated[str, typer.Option(help="As for score.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Say what a checkpoint holds, how that was decided, and what was ignored."""
    from ferd_eval.cli.inspecting import inspect_checkpoint

    inspect_checkpoint(checkpoint, key, arch, model_file, normalize, as_json=json)
