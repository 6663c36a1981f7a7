"""``index.html``: one self-contained file that looks like a leaderboard and can be sorted."""

from __future__ import annotations

from markupsafe import Markup

from ferd_eval.report.published.index import HOW_TO_ADD, TITLE, Hub
from ferd_eval.report.published.link import Link
from ferd_eval.report.run.html import environment, template_text


def page(hub: Hub) -> str:
    """Render the page; every name is escaped, and every link stays below the reports."""
    made = environment()
    made.tests["link"] = _is_link
    return made.get_template("published.html.j2").render(
        hub=hub,
        title=TITLE,
        how_to_add=HOW_TO_ADD,
        style=Markup(template_text("report.css") + template_text("leaderboard.css")),
        script=Markup(template_text("sort.js")),
    )


def _is_link(cell: object) -> bool:
    return isinstance(cell, Link) and bool(cell.href)
