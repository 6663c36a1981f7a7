"""``ferd-eval compare``: two networks, or two methods, on the same images, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SIDE = "A run, a folder of runs (seeds of one method), or runs joined by commas."


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; differences are B − A.")],
    reference: Annotated[
        str | None, typer.Option(metavar="C", help="Also compare both with C.")
    ] = None,
    attack: Annotated[
        str | None, typer.Option(help="Attack of the verdict; default: the strongest both met.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Tolerated loss of average accuracy, a fraction.")
    ] = 0.01,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report [default: reports/compare/A-vs-B].")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print compare.json.")] = False,
    pair_seeds: Annotated[
        bool | None,
        typer.Option(
            "--pair-seeds/--no-pair-seeds",
            help="Take differences seed by seed [default: where seeds and teachers are the same].",
        ),
    ] = None,
) -> None:
    """Compare B with A on the same images.

    One verdict, and every difference with its interval.
    """
    from ferd_eval import commands
    from ferd_eval.report.comparison.build import comparison_view
    from ferd_eval.report.comparison.compare import default_folder
    from ferd_eval.report.comparison.terminal import render_comparison
    from ferd_eval.report.comparison.write import record, write_comparison
    from ferd_eval.runtime.console import show

    report = commands.compare(
        a, b, reference=reference, attack=attack, margin=margin, pair_seeds=pair_seeds
    )
    folder = out or default_folder(report)
    write_comparison(folder, report)
    show(
        lambda: render_comparison(comparison_view(report)),
        lambda: record(report),
        folder / "compare.html",
        as_json=json,
    )
