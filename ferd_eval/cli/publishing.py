"""What ``publish`` does: search, check, rank, write. No torch on this path."""

from __future__ import annotations

import sys
from pathlib import Path

from ferd_eval.errors import UserError
from ferd_eval.report.published import PUBLISHED, contents, hub, search, stale, write_site


def publish_runs(reports: Path, *, check: bool) -> int:
    """Write the pages, or see whether they are as they would be written; return the exit status.

    Raises:
        UserError: nothing is published there.
    """
    found = search(reports)
    for problem in found.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not found.runs:
        raise UserError(
            f"nothing that can stand is published below {reports}. Put a run's scorecard.json and "
            "manifest.json into a folder there."
        )
    files = contents(hub(found.runs))
    if not check:
        print(write_site(reports / PUBLISHED, files))
        return 0
    outdated = stale(reports / PUBLISHED, files)
    if outdated:
        print(f"{'; '.join(outdated)}. Run ferd-eval publish {reports}.", file=sys.stderr)
    return 1 if outdated or found.problems else 0
