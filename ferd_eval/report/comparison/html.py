"""``compare.html``: one self-contained file that looks like a report."""

from __future__ import annotations

from markupsafe import Markup

from ferd_eval.report.comparison.build import ComparisonView
from ferd_eval.report.run.html import environment, template_text

#: Where the marks of the chart's axis stand, as shares of its reach.
_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def comparison_page(view: ComparisonView) -> str:
    """Render the page; every name is escaped."""
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            view=view,
            ticks=[((1 + share) / 2, _tick(share * view.reach)) for share in _TICKS],
            style=Markup(template_text("report.css") + template_text("compare.css")),
            script=Markup(template_text("sort.js")),
        )
    )


def _tick(points: float) -> str:
    text = f"{100 * abs(points):g}"
    if points == 0:
        return text
    return ("+" if points > 0 else "\N{MINUS SIGN}") + text
