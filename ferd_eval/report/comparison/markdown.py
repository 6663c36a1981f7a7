"""``compare.md``."""

from __future__ import annotations

from ferd_eval.report.comparison.view import ComparisonView
from ferd_eval.report.markdown import environment


def comparison_markdown(view: ComparisonView) -> str:
    """Render as GitHub-flavoured Markdown; names from files are escaped."""
    return environment().get_template("compare.md.j2").render(view=view)
