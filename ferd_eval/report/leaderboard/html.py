"""``leaderboard.html``: one self-contained file that looks like a report and can be sorted."""

from __future__ import annotations

from markupsafe import Markup

from ferd_eval.report.leaderboard.build import Leaderboard
from ferd_eval.report.leaderboard.markdown import RULE
from ferd_eval.report.run.html import environment, template_text


def page(board: Leaderboard) -> str:
    """Render the page; every name is escaped."""
    return (
        environment()
        .get_template("leaderboard.html.j2")
        .render(
            board=board,
            rule=RULE,
            style=Markup(template_text("report.css") + template_text("leaderboard.css")),
            script=Markup(template_text("sort.js")),
        )
    )
