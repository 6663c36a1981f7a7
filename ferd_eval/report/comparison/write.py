"""Write a comparison's folder."""

from __future__ import annotations

from pathlib import Path

from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.io.json import to_json
from ferd_eval.report.comparison.build import ComparisonView, comparison_view
from ferd_eval.report.comparison.csv import comparison_csv
from ferd_eval.report.comparison.html import comparison_page
from ferd_eval.report.comparison.json import record
from ferd_eval.report.comparison.model import Contest
from ferd_eval.report.run.markdown import environment


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


def comparison_markdown(view: ComparisonView) -> str:
    """Render as GitHub-flavoured Markdown; names from files are escaped."""
    return environment().get_template("compare.md.j2").render(view=view)
