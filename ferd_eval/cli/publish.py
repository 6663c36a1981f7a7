"""``ferd-eval publish``: one page over everything published, without torch."""

from __future__ import annotations

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
    """Rank every run below REPORTS (not REPORTS/runs) on one page: REPORTS/published/index.html."""
    from ferd_eval.cli.publishing import publish_runs

    raise typer.Exit(publish_runs(reports, check=check))
