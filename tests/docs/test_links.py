"""Whatever the documents lead to is there: files, headings, modules, names, tests."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.documents import DOCUMENTS

PAGES = [*DOCUMENTS, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:ferd_\w+|tests|benchmarks|scripts|studies)/[\w/.-]+")
MODULE = re.compile(r"ferd_(?:eval|train)(?:\.\w+)+")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def code(page: Path) -> str:
    return "\n".join(re.findall(r"`([^`\n]+)`", prose(page)))


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    dead = []
    for link in LINK.findall(prose(page)):
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        if link.startswith("http"):
            continue
        if not target.exists() or (anchor and anchor not in headings(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_and_modules_that_are_named_exist(page):
    named = code(page)
    missing = [path for path in PATH.findall(named) if not (ROOT / path.rstrip(".")).exists()]
    missing += [dotted for dotted in set(MODULE.findall(named)) if not _resolves(dotted)]
    assert missing == []


def _resolves(dotted: str) -> bool:
    parts, names = dotted.split("."), []
    while parts:
        try:
            found = importlib.import_module(".".join(parts))
        except ModuleNotFoundError:
            names.insert(0, parts.pop())
            continue
        for name in names:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def test_tests_that_are_named_exist():
    sources = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", prose(page))}
    assert {name for name in named if f"def {name}(" not in sources} == set()


def test_every_document_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = {(ROOT / "docs" / link).resolve() for link in LINK.findall(index)}
    documents = {page for page in PAGES if page.parent in (ROOT, ROOT / "docs")}
    assert documents - {ROOT / "docs" / "index.md"} - listed == set()
