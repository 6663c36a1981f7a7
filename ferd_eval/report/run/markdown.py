"""``report.md``."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from ferd_eval.io.escape import one_line
from ferd_eval.report.format import Cell, Figure
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
    made.filters["md"] = escape
    made.tests["figure"] = _is_figure
    return made


def escape(cell: Cell) -> str:
    """Neutralise what Markdown or the HTML inside it would act on; a line break becomes a space."""
    text = one_line(str(cell))
    text = re.sub(r"([\\`*|\[\]~])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    # GitHub makes links of bare addresses.
    text = re.sub(r"(?<=\w):(?=//)|(?<=\w)@(?=[\w.-]*\.[A-Za-z])", r"\\\g<0>", text)
    text = re.sub(r"(?i)(?<=\bwww)\.", r"\\.", text)
    return text.replace("<", "&lt;")


def _is_figure(cell: Cell) -> bool:
    return isinstance(cell, Figure)
