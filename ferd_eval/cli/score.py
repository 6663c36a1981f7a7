"""``ferd-eval score``: attack checkpoints and write their reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ferd_eval.cli.options import config_options, run_option
from ferd_eval.evaluation.config import EvalConfig


@config_options()
def score(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CKPT...", help="Files of weights; never executed.")
    ],
    config: Annotated[Path | None, run_option(help="TOML file with any of these options.")] = None,
    json: Annotated[bool, run_option("--json", help="Print the scorecard as JSON.")] = False,
    dry_run: Annotated[
        bool, run_option("--dry-run", help="Say what would run and how long; write nothing.")
    ] = False,
    **flags: Any,
) -> None:
    """Attack checkpoints; report how evenly their classes resist.

    Killed at any moment, the same command goes on where it stopped and ends with the same result.
    """
    settings = EvalConfig.gather(flags, config)

    from ferd_eval.pipeline import plan_checkpoints, score_checkpoints

    if dry_run:
        plan_checkpoints(checkpoints, settings, as_json=json)
    else:
        score_checkpoints(checkpoints, settings, command=["ferd-eval", *sys.argv[1:]], as_json=json)
