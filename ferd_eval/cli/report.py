"""``ferd-eval report``: render a run again from its outcomes, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a folder of runs.")],
    groups: Annotated[
        str | None, typer.Option(help="Figures for groups of classes: superclass or a CSV file.")
    ] = None,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="An audit appendix too, of each run: audit.md, .html, .json.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the scorecard as JSON.")] = False,
    cite: Annotated[
        bool, typer.Option("--cite", help="Print BibTeX of the attacks, data and figures used.")
    ] = False,
) -> None:
    """Write the reports of a finished run again, from its outcomes."""
    from ferd_eval.cli.citations import print_citations
    from ferd_eval.report import render_terminal, scorecards, view
    from ferd_eval.report.api import report_folder
    from ferd_eval.runtime.console import show

    runs, pages = report_folder(folder, groups, audit=audit)
    several = len(pages) > 1  # of many methods or evaluations; no one table or page is over all
    if cite:
        print_citations([run.manifest for run in runs])
    elif several and not json:
        print(*pages, sep="\n")
    else:
        show(
            lambda: render_terminal(view(runs)),
            lambda: scorecards(runs),
            *([] if several else pages),
            as_json=json,
        )
