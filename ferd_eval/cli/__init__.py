"""The ``ferd-eval`` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
    listing,
    publish,
    report,
    score,
)
from ferd_eval.errors import UserError
from ferd_eval.interruption import terminating_as_interrupting
from ferd_eval.memory import keep_freed_memory
from ferd_eval.terminal_text import one_line

#: Exit status of a mistake the user can mend, and of an interrupted run.
MISTAKE, INTERRUPTED = 2, 130

#: What a disk says that takes no more; the user's to mend, wherever it comes up.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)

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


def run(app: Callable[..., object], arguments: Sequence[str], program: str) -> int:
    """Run a typer app: mistakes are one line and status 2, never a traceback.

    ``--debug`` anywhere on the line shows the traceback instead.
    """
    debug = "--debug" in arguments
    keep_freed_memory()
    # Of processes that torchrun started, each must end when it is told to, at once.
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    try:
        with terminating_as_interrupting() if alone else nullcontext():
            status = app(
                [word for word in arguments if word != "--debug"],
                standalone_mode=False,
                prog_name=program,
            )
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        sys.stderr.close()
        return 0
    except UserError as mistake:
        if debug:
            raise
        return _complain(str(mistake))
    except OSError as reason:
        if debug or reason.errno not in _FULL:
            raise
        return _complain(
            f"{reason.filename or 'writing'}: {reason.strerror}. Free some space, or have the disk "
            "looked after, and run the same command again; finished work is kept."
        )
    except Exception as mistake:
        # Typer's own parse errors know how to say themselves; anything else is a bug of ours.
        say = getattr(mistake, "format_message", None)
        if debug or say is None:
            raise
        if not say():  # no arguments at all: typer has shown the help
            return MISTAKE
        return _complain(f"{say()} Try {program} --help.")
    if status == INTERRUPTED:  # older versions of typer raise, newer ones return it
        print(
            "\ninterrupted: finished work is kept; run the same command again to continue.",
            file=sys.stderr,
        )
    return status if isinstance(status, int) else 0


def _complain(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return MISTAKE
