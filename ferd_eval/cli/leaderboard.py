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
    """Rank many runs in one table.

    The best is bold, the second underlined; ≈ marks ties inside the noise.
    """
    from ferd_eval.datasets import list_datasets
    from ferd_eval.errors import UserError
    from ferd_eval.report.leaderboard import (
        leaderboard,
        read_reported,
        record,
        render_terminal,
        write_leaderboard,
    )
    from ferd_eval.report.leaderboard.read import read_scored_groups
    from ferd_eval.runtime.console import show

    published = None if reported is None else read_reported(reported)
    groups = read_scored_groups(runs, group_seeds=group_seeds)
    ids = list(dict.fromkeys(filter(None, map(str.strip, (attacks or "").split(",")))))
    if attacks is not None and not ids:
        raise UserError("--attacks names no attack. Give some with commas, such as clean,pgd,aa.")
    classes = {info.name: info.num_classes for info in list_datasets() if info.num_classes}
    board = leaderboard(groups, published, attacks=ids, sort=sort, num_classes=classes)
    page = write_leaderboard(out, board)[-1]
    show(lambda: render_terminal(board), lambda: record(board), page, as_json=json)
