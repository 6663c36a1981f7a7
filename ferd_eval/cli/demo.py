"""``ferd-eval demo``: the packaged example."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ferd_eval.evaluation.config import EvalConfig


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs, one per checkpoint.")] = Path(
        "reports/runs/demo"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print the scorecards as JSON.")] = False,
) -> None:
    """Score two packaged networks on 1000 packaged images."""
    from ferd_eval.models.demo import demo_checkpoints
    from ferd_eval.pipeline import score_checkpoints

    with demo_checkpoints() as files:
        score_checkpoints(
            files,
            EvalConfig(dataset="demo", attacks="fast", out=out),
            command=["ferd-eval", *sys.argv[1:]],
            as_json=json,
        )
