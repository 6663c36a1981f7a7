"""Write the audit appendix beside a run's report."""

from __future__ import annotations

from pathlib import Path

from ferd_eval.io.files import write_texts
from ferd_eval.io.json import to_json
from ferd_eval.report import render
from ferd_eval.report.audit.appendix import appendix
from ferd_eval.report.run.model import Run


def write_appendix(folder: Path, run: Run) -> tuple[Path, ...]:
    """Write ``audit.md``, ``audit.html`` and ``audit.json`` of one run into its folder.

    Returns:
        The files written.

    Raises:
        UserError: the folder cannot be written.
    """
    made = appendix(run)
    contents = {
        "audit.md": render.text("audit.md.j2", appendix=made),
        "audit.html": render.page("audit.html.j2", styles=("report.css",), appendix=made),
        "audit.json": to_json(made.data),
    }
    return write_texts(folder, contents)
