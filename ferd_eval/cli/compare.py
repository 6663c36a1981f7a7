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
        str | None, typer.Option(metavar="C", help="Show too how both stand to this.")
    ] = None,
    attack: Annotated[
        str | None, typer.Option(help="What to judge by; default: the strongest both met.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Loss on average that counts as none, a fraction.")
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
    """Say how B stands to A on the same images: one verdict, every difference with its interval."""
    from ferd_eval.report.comparison.compare import Comparing, compare_sides

    compare_sides(
        Comparing(a, b, reference, attack, margin, out, pair_seeds),
        as_json=json,
    )
