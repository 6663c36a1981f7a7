"""Names come from files: they must stay text in every format."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ferd_eval.report import render_terminal, view, write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    '=HYPERLINK("http://evil","x")',
    "+1+1",
    "-2",
    "@SUM(A1)",
    "a|b\nc",
    "[link](javascript:alert(4))",
    "[bold red]{{ 7*7 }}{% raw %}\u2028",
)


@pytest.fixture
def files(make_run: Any, tmp_path: Path) -> dict[str, str]:
    run = make_run(
        "<b>run</b>", HOSTILE, targeted=True, profile=True, empty=[1],
        warnings=["<i>careful</i>"], groups={"<u>kind</u>": tuple(HOSTILE)},
    )  # fmt: skip
    return {file.name: file.read_text("utf-8") for file in write_report(tmp_path, [run])}


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_holds_no_element_or_handler_from_a_name(files: dict[str, str]) -> None:
    page = Elements()
    page.feed(files["report.html"])
    tags = [tag for tag, _ in page.found]
    assert tags.count("script") == 2
    assert not {"img", "link", "iframe"} & set(tags)
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert "<script>alert(1)</script>" in page.text
    data = re.search(r'id="data">(.*?)</script>', files["report.html"])[1]
    assert tuple(json.loads(data)["runs"][0]["classes"]) == HOSTILE
    assert not set("<>&\u2028") & set(data)


def test_html_asks_for_nothing_from_outside(files: dict[str, str]) -> None:
    page = Elements()
    page.feed(files["report.html"])
    assert not [a for _, a in page.found if {"src", "href", "action", "data", "poster"} & set(a)]
    style = files["report.html"].split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_no_csv_cell_is_a_formula(files: dict[str, str]) -> None:
    for name in ("report.csv", "report_wide.csv"):
        for row in csv.reader(files[name].splitlines(keepends=True)):
            for cell in row:
                if cell[:1] in ("=", "+", "@", "-"):
                    float(cell)  # a negative number, nothing else
    rows = list(csv.DictReader(files["report_wide.csv"].splitlines(keepends=True)))
    names = [row["class"] for row in rows]
    assert names[3].startswith("'=")
    assert names[5] == "'-2"
    assert names[7] == "a|b\nc"


def test_markdown_tables_keep_their_columns(files: dict[str, str]) -> None:
    markdown = files["report.md"]
    assert "<script>" not in markdown
    assert "<b>" not in markdown
    assert "a\\|b c" in markdown
    assert "\\[link\\](" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_terminal_takes_no_markup_from_a_name(make_run: Any) -> None:
    console = Console(width=100, color_system=None, record=True, quiet=False, stderr=True)
    console.print(render_terminal(view([make_run("[bold]m[/bold]", HOSTILE)])))
    text = console.export_text()
    assert "[bold]m[/bold]" in text
    assert "[bold red]" in text
