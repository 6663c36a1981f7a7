"""``ferd-eval gate``: does a run meet its requirements? For continuous integration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def gate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run, or a folder of runs: all must pass."),
    ],
    floor: Annotated[
        str | None,
        typer.Option(help="Every class must be right at least this often: 0.20 or 20%."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(help="No class may lose more than this from clean to attacked: 0.30 or 30%."),
    ] = None,
    attack: Annotated[
        str | None, typer.Option(help="Default: the strongest attack of the run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Check a run against limits, for continuous integration.

    Exit 0 if it meets them with 95 % confidence, 1 if not, 2 if the command or the run is bad.
    """
    from ferd_eval.io.json import to_json
    from ferd_eval.report.gate import judge

    verdict = judge(folder, floor, max_drop, attack)
    try:
        print(to_json(verdict.to_dict()) if json else verdict.line + "\n", end="", flush=True)
    except BrokenPipeError:  # nobody reads the line, but the status still has to be right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0 if verdict.passed else 1)
