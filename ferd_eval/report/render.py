"""The template environments and the CSV writer of all reports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ferd_eval.io.escape import escape_formula, escape_latex, escape_markdown
from ferd_eval.report.format import FormattedValue, percent, span

CsvCell = str | float | FormattedValue | None


@cache
def environment(*, html: bool) -> Environment:
    """Templates of HTML, which escape all that is not marked as safe, or of Markdown and LaTeX.

    The filters `md` and `tex` escape for these; `nb` keeps numbers and their units on one line.
    """
    made = Environment(
        loader=PackageLoader("ferd_eval.report", "templates"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )
    made.filters |= {"md": escape_markdown, "tex": escape_latex, "nb": keep_units, "zipped": zip}
    made.filters |= {"percent": percent, "span": span}
    made.tests["figure"] = lambda cell: isinstance(cell, FormattedValue)
    return made


def text(template: str, **context: Any) -> str:
    """Render Markdown or LaTeX; the template escapes names from files."""
    return environment(html=False).get_template(template).render(context).rstrip() + "\n"


def page(template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **of: Any) -> str:
    """Render a self-contained page; every name is escaped.

    Args:
        styles, scripts: files among the templates, put into ``style`` and ``script``.
        of: the template's other variables.
    """
    style, script = (Markup("".join(map(template_text, files))) for files in (styles, scripts))
    return environment(html=True).get_template(template).render(style=style, script=script, **of)


def template_text(name: str) -> str:
    """A style sheet or script, as it is."""
    return (resources.files("ferd_eval.report") / "templates" / name).read_text(encoding="utf-8")


def keep_units(text: str) -> str:
    """Keep a number and its per-cent sign, and ε and its value, on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
        "ε = ", "ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    )


def figure_rows(
    figures: Mapping[str, FormattedValue], *start: CsvCell
) -> Iterator[tuple[CsvCell, ...]]:
    """Rows of a long table: `start`, then metric, value and printed value of each figure."""
    for metric, figure in figures.items():
        yield *start, metric, figure.value, figure


def csv_text(heading: Iterable[str], rows: Iterable[Iterable[CsvCell]]) -> str:
    """Rows under their headings: numbers in full precision, printed values, text from files.

    A printed value has an ASCII minus and is empty where there is none, as spreadsheets read it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(escape_formula, heading))
    writer.writerows(map(_csv_cell, row) for row in rows)
    return stream.getvalue()


def _csv_cell(cell: CsvCell) -> str | float | None:
    if isinstance(cell, str):
        return escape_formula(cell)
    if isinstance(cell, FormattedValue):
        return "" if cell.value is None else cell.text.replace("\N{MINUS SIGN}", "-")
    return cell
