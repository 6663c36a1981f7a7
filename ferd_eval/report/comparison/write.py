"""Write a comparison's folder."""

from __future__ import annotations

from pathlib import Path

from ferd_eval.output import make_folder, to_json, write_atomically
from ferd_eval.report.comparison.contest import Contest
from ferd_eval.report.comparison.markdown import comparison_markdown
from ferd_eval.report.comparison.page import comparison_page
from ferd_eval.report.comparison.record import record
from ferd_eval.report.comparison.spreadsheet import comparison_csv
from ferd_eval.report.comparison.view import comparison_view


def write_comparison(folder: Path, contest: Contest) -> tuple[Path, ...]:
    """Write ``compare.json``, ``compare.md``, ``compare.csv`` and ``compare.html``.

    Returns:
        The files written.

    Raises:
        UserError: the folder cannot be written.
    """
    view = comparison_view(contest)
    contents = {
        "compare.json": to_json(record(contest, view)),
        "compare.md": comparison_markdown(view),
        "compare.csv": comparison_csv(view),
        "compare.html": comparison_page(view),
    }
    make_folder(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return tuple(folder / name for name in contents)
