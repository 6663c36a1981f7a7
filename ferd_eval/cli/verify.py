"""``ferd-eval verify``: is a run as it was written, and still what it was? Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A finished run, or a folder of runs.")
    ],
    groups: Annotated[
        str | None, typer.Option(help="As given to report, where figures of groups are in it.")
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="An earlier run: same images, same attacks, no change beyond noise.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Recompute all digests and figures of a run, and name what was altered.

    Exit 0 if nothing was, 1 if something was or moved, 2 if the command or the run is bad.
    """
    from ferd_eval.io.escape import one_line
    from ferd_eval.io.json import to_json
    from ferd_eval.report.verify import verify as verify_folder

    found = verify_folder(folder, groups, expect)
    passed = all(each.passed for each in found.values())
    if json:
        runs = {name: each.to_dict() for name, each in found.items()}
        print(to_json({"pass": passed, "folders": runs}), end="")
    else:
        for name, each in found.items():
            start = "" if len(found) == 1 else f"{one_line(name)}: "
            print(*(f"{start}{line}" for line in each.lines), sep="\n")
    raise typer.Exit(0 if passed else 1)
