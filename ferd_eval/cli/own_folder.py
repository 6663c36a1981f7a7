"""A run's folder is its own: nothing is written among somebody else's files. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ferd_eval.errors import UserError
from ferd_eval.manifest import RECORD
from ferd_eval.name_list import listed

#: What a run leaves behind, wherever it was stopped; its record, `RECORD`, comes first of all.
_OWN_FILES = re.compile(
    r"units|adversarial|outcomes\.parquet|scorecards?\.json|report(_wide)?\.\w+|audit\.\w+"
)


def require_own_folder(folder: Path, runs: Sequence[str] = ()) -> None:
    """A run is written into a folder of its own, not among the files of something else.

    Args:
        folder: where; it may hold runs, or what is left of one.
        runs: names of runs that are to be folders in it.

    Raises:
        UserError: it holds something else.
    """
    try:
        names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
        ours = (folder / RECORD).exists() or any(folder.glob(f"*/{RECORD}"))
    except OSError:
        return  # there is nothing yet, or what is wrong has its own message
    foreign = [name for name in names if not (name in runs or _OWN_FILES.fullmatch(name))]
    if foreign and not ours:
        raise UserError(
            f"{folder} holds files that are not of a run ({listed(foreign, 3)}). "
            f"Give a folder of its own, e.g. --out {folder / 'run'}."
        )
