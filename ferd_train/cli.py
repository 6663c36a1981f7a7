"""The ``ferd-train`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferd_eval.cli import run
from ferd_eval.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ferd_train.training import EpochLog

app = typer.Typer(
    name="ferd-train",
    help="Train robust teachers; what comes out, ferd-eval reads without being told anything.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def ferd_train() -> None:
    """Train robust teachers; what comes out, ferd-eval reads without being told anything."""


@app.command()
def teacher(
    recipe: Annotated[str, typer.Option(help="A name of ferd-train ls, or your own FILE.toml.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command continues it.")],
    data_dir: Annotated[Path | None, typer.Option(help="Where the data set lies.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a missing set.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the recipe: --set epochs=30. Repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Train a robust network from data by adversarial training (PGD-AT or TRADES)."""
    from ferd_train.recipes import find_teacher_recipe

    wanted = find_teacher_recipe(recipe).with_changes(_parse_changes(changes or []))
    if seed is not None:
        wanted = wanted.with_changes({"seed": seed})

    from ferd_eval.device import choose_device
    from ferd_train.teacher import train_teacher

    chosen = choose_device(device)
    print(f"{recipe}: {wanted.arch} on {chosen.device} ({chosen.reason})", file=sys.stderr)
    print(
        train_teacher(
            wanted, out, device=chosen, data_dir=data_dir, download=download, watch=_print_epoch
        )
    )


@app.command()
def ls(
    what: Annotated[str, typer.Argument(metavar="[recipes]", show_default=False)] = "recipes",
) -> None:
    """List the recipes."""
    from ferd_train.recipes import STUDENT_RECIPES, TEACHER_RECIPES, summary

    if what != "recipes":
        raise UserError(f"there is no list of {what!r}.{did_you_mean(what, ['recipes'])}")
    for whose, recipes in (("teacher", TEACHER_RECIPES), ("student", STUDENT_RECIPES)):
        for name, recipe in recipes.items():
            print(f"{whose:8} {name:20} {summary(recipe)}")


def _parse_changes(changes: list[str]) -> dict[str, str]:
    for change in changes:
        if "=" not in change:
            raise UserError(f"--set {change} is not NAME=VALUE, e.g. --set epochs=30.")
    pairs = (change.split("=", 1) for change in changes)
    return {name.replace("-", "_"): value for name, value in pairs}


def _print_epoch(log: EpochLog, epochs: int) -> None:
    from ferd_eval.progress import duration

    left = duration(log.seconds * (epochs - log.epoch))
    print(
        f"epoch {log.epoch}/{epochs}  loss {log.train_loss:.3f}  validation: clean "
        f"{log.validation_clean:.1%}, PGD-10 {log.validation_pgd:.1%}, worst class "
        f"{log.validation_pgd_worst_class:.1%}  {duration(log.seconds)}, {left} left",
        file=sys.stderr,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(app, sys.argv[1:] if arguments is None else arguments, "ferd-train"))
