"""The ``ferd-eval`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import ferd_eval
from ferd_eval.cli.compare import compare
from ferd_eval.cli.corruptions import corruptions
from ferd_eval.cli.demo import demo
from ferd_eval.cli.gate import gate
from ferd_eval.cli.import_ import import_
from ferd_eval.cli.inspect import inspect
from ferd_eval.cli.leaderboard import leaderboard
from ferd_eval.cli.ls import ls
from ferd_eval.cli.publish import publish
from ferd_eval.cli.report import report
from ferd_eval.cli.score import score
from ferd_eval.cli.verify import verify
from ferd_eval.runtime.command_line import run

app = typer.Typer(
    name="ferd-eval",
    help="How evenly an image classifier resists adversarial attack across its classes.",
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


for command in (
    score, demo, report, compare, import_, gate, verify, leaderboard, publish, inspect, ls,
    corruptions,
):  # fmt: skip
    app.command(command.__name__.rstrip("_"))(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(app, sys.argv[1:] if arguments is None else arguments, "ferd-eval"))
