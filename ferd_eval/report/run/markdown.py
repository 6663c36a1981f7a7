"""``report.md``."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from ferd_eval.io.escape import escape_markdown
from ferd_eval.report.format import Cell, FormattedValue
from ferd_eval.report.run.build import View


def markdown(view: View) -> str:
    """Render the report as GitHub-flavoured Markdown; names from files are escaped."""
    return environment().get_template("report.md.j2").render(view=view)


@cache
def environment() -> Environment:
    """Templates of Markdown, with the filter `md` that escapes; compiled once."""
    made = Environment(
        loader=PackageLoader("ferd_eval.report", "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["md"] = escape_markdown
    made.tests["figure"] = _is_figure
    return made


def _is_figure(cell: Cell) -> bool:
    return isinstance(cell, FormattedValue)
