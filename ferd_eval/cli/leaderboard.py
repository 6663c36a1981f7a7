"""``ferd-eval leaderboard``: many runs in one table, without torch."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

#: An option about the LaTeX file alone.
_latex_option = partial(typer.Option, rich_help_panel="The table for a paper: leaderboard.tex")


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
    figures: Annotated[
        str | None,
        typer.Option(
            help="Which figures, in this order: avg, worst, nsd, floor, with commas; default: all."
        ),
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
    intervals: Annotated[
        bool, _latex_option("--intervals/--no-intervals", help="Whether intervals stand in it.")
    ] = True,
    caption: Annotated[
        str | None, _latex_option(help="Text, printed as it is; default: data, images and ε.")
    ] = None,
    label: Annotated[
        str | None, _latex_option(help="For a reference to it, such as tab:robustness.")
    ] = None,
    transpose: Annotated[
        bool, _latex_option("--transpose", help="Figures down, networks across.")
    ] = False,
    siunitx: Annotated[
        bool, _latex_option("--siunitx", help="Columns of siunitx 3, aligned at the point.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    cite: Annotated[
        bool, typer.Option("--cite", help="Print BibTeX of the attacks, data and figures used.")
    ] = False,
) -> None:
    """Rank many runs in one table.

    The best is bold, the second underlined; ≈ marks ties inside the noise.
    """
    from ferd_eval import commands
    from ferd_eval.cli.citations import print_citations
    from ferd_eval.report.leaderboard import LatexStyle, misfit, record, render_terminal
    from ferd_eval.runtime.console import show

    style = LatexStyle(intervals, caption, label, transpose, siunitx)
    board = commands.leaderboard(
        runs,
        reported=reported,
        attacks=attacks,
        figures=figures,
        sort=sort,
        group_seeds=group_seeds,
        style=style,
        out=out,
    )
    if style != LatexStyle() and (caution := misfit(board, style)):
        print(caution, file=sys.stderr)
    if cite:
        print_citations([run.manifest for group in board.groups for run in group.runs])
        return
    page = out / "leaderboard.html"
    show(lambda: render_terminal(board), lambda: record(board), page, as_json=json)
