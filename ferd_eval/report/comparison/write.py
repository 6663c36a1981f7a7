"""Write a comparison's folder."""

from __future__ import annotations

from pathlib import Path

from ferd_eval.io.files import make_folder, write_texts
from ferd_eval.io.json import to_json
from ferd_eval.report import render
from ferd_eval.report.comparison.build import comparison_view
from ferd_eval.report.comparison.csv import comparison_csv
from ferd_eval.report.comparison.json import record
from ferd_eval.report.comparison.model import ComparisonReport, ComparisonView

#: Ticks of the chart's axis, as shares of its reach.
_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def write_comparison(folder: Path, report: ComparisonReport) -> tuple[Path, ...]:
    """Write ``compare.json``, ``compare.md``, ``compare.csv`` and ``compare.html``.

    Returns:
        The files written.

    Raises:
        UserError: the folder cannot be written.
    """
    view = comparison_view(report)
    contents = {
        "compare.json": to_json(record(report)),
        "compare.md": render.text("compare.md.j2", view=view),
        "compare.csv": comparison_csv(view),
        "compare.html": comparison_page(view),
    }
    make_folder(folder)
    return write_texts(folder, contents)


def comparison_page(view: ComparisonView) -> str:
    """One self-contained page that looks like a report."""
    return render.page(
        "compare.html.j2",
        styles=("report.css", "compare.css"),
        scripts=("sort.js",),
        view=view,
        ticks=[((1 + share) / 2, _tick(share * view.reach)) for share in _TICKS],
    )


def _tick(points: float) -> str:
    sign = "+" if points > 0 else "\N{MINUS SIGN}" if points < 0 else ""
    return f"{sign}{100 * abs(points):g}"
