"""Cells of the tables in a page or in Markdown."""

from __future__ import annotations

import re
from html import unescape


def html_rows(html: str) -> list[list[str]]:
    found = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in found]
    return [[unescape(cell) for cell in row] for row in cells]


def markdown_rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
