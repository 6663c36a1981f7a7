"""Run a command line: mistakes become one line and status 2, interruptions status 130."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import typer

from ferd_eval.errors import UserError
from ferd_eval.io.escape import one_line
from ferd_eval.runtime.malloc import keep_freed_memory
from ferd_eval.runtime.remarks import remarks_on_stderr
from ferd_eval.runtime.signals import terminating_as_interrupting

#: Exit status of a user's mistake, and of an interrupted run.
MISTAKE, INTERRUPTED = 2, 130

#: Errors of a full or failing disk; the user can mend them, so no traceback.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)


def run(app: typer.Typer, arguments: Sequence[str], program: str) -> int:
    """Run a typer app: mistakes are one line and status 2, never a traceback.

    ``--debug`` anywhere on the line shows the traceback instead.
    """
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]
    command = typer.main.get_command(app)
    # rich takes 0.2 s to import, too long for a list of commands; their own help is worth it.
    command.rich_markup_mode = None  # type: ignore[attr-defined]
    keep_freed_memory()
    # Processes of torchrun must end at once when told to.
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    try:
        with remarks_on_stderr(), terminating_as_interrupting() if alone else nullcontext():
            status = command(
                words or ["--help"],
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
        # Typer's parse errors have a message of their own; anything else is a bug of ours.
        say = getattr(mistake, "format_message", None)
        if debug or say is None:
            raise
        return _complain(f"{say()} Try {program} --help.")
    if not words:
        return MISTAKE
    if status == INTERRUPTED:  # older versions of typer raise, newer ones return it
        print(
            "\ninterrupted: finished work is kept; run the same command again to continue.",
            file=sys.stderr,
        )
    return status if isinstance(status, int) else 0


def _complain(message: str) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return MISTAKE
