"""``ferd-eval publish``: one page over everything published, without torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def publish(
    reports: Annotated[
        Path, typer.Argument(metavar="[REPORTS]", help="Folder of published reports.")
    ] = Path("reports"),
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing; exit with 1 if a run is broken or a page is stale."
        ),
    ] = False,
) -> None:
    """Rank all runs below REPORTS on one page.

    The page is REPORTS/published/index.html; runs below REPORTS/runs are left out.
    """
    from ferd_eval.errors import UserError
    from ferd_eval.report.published import PUBLISHED, contents, hub, search, stale, write_site

    found = search(reports)
    for problem in found.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not found.runs:
        raise UserError(
            f"no published run below {reports} can be read. Put a run's scorecard.json and "
            "manifest.json into a folder there."
        )
    files = contents(hub(found.runs))
    if not check:
        print(write_site(reports / PUBLISHED, files))
        return
    outdated = stale(reports / PUBLISHED, files)
    if outdated:
        print(f"{'; '.join(outdated)}. Run ferd-eval publish {reports}.", file=sys.stderr)
    if outdated or found.problems:
        raise typer.Exit(1)
