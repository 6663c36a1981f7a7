"""The ``ferd-eval`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import ferd_eval
from ferd_eval.cli import (
    compare,
    demo,
    gate,
    import_,
    inspect,
    leaderboard,
    publish,
    report,
    score,
)
from ferd_eval.cli import (
    ls as listing,
)
from ferd_eval.runtime.command_line import run

app = typer.Typer(
    name="ferd-eval",
    help="How evenly an image classifier resists adversarial attack across its classes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ferd-eval {ferd_eval.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command("score")(score.score)
app.command("demo")(demo.demo)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("import")(import_.import_)
app.command("gate")(gate.gate)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("publish")(publish.publish)
app.command("inspect")(inspect.inspect)
app.command("ls")(listing.ls)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(app, sys.argv[1:] if arguments is None else arguments, "ferd-eval"))
