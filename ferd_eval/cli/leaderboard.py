"""``ferd-eval leaderboard``: many runs in one table, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders or folders of runs; NAME=A,B,C is one row over training seeds.",
        ),
    ],
    reported: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv|paper", help="Published rows to show apart; paper: those of FERD."
        ),
    ] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Which attacks, in this order, with commas; default: all.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="ATTACK.FIGURE such as pgd.worst (avg, worst, nsd, floor), name, given."),
    ] = None,
    group_seeds: Annotated[
        bool,
        typer.Option("--group-seeds", help="Runs that differ in the training seed are one row."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("reports/leaderboard"),
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Put many runs in one table: best bold, second underlined, ≈ for ties inside the noise."""
    from ferd_eval.cli.ranking import rank_runs

    rank_runs(
        runs,
        reported=reported,
        attacks=attacks,
        sort=sort,
        group_seeds=group_seeds,
        out=out,
        as_json=json,
    )
