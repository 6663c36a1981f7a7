"""Our own published page in a real browser: it fits a phone, asks for nothing, and sorts."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.eval.report.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")

PAGE = ROOT / "reports" / "published" / "index.html"

#: Values of the worst class in the first ranking, and the middle of the button above them.
VALUES = (
    '[...document.querySelectorAll(".board .measured")[0].rows].map((r) => +r.cells[2].dataset.v)'
)
HEAD = """(() => { const head = document.querySelector(".board thead tr:last-child").cells[2];
  const button = head.querySelector("button"); button.scrollIntoView({ inline: "center" });
  const box = button.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; })()"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_sorts_and_asks_for_nothing(chromium: Chromium, width: int) -> None:
    chromium.open(PAGE, width)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    before = chromium.ask(VALUES)
    assert len(set(before)) > 1
    for order in (1, -1):
        chromium.click(*chromium.ask(HEAD))
        assert chromium.ask(VALUES) == sorted(before, reverse=order < 0)
    assert chromium.requests == [PAGE.as_uri()]
    assert chromium.complaints == []


def test_every_link_leads_to_something_published(chromium: Chromium) -> None:
    chromium.open(PAGE, 1280)
    links = chromium.ask('[...document.querySelectorAll("a")].map((a) => a.getAttribute("href"))')
    assert links
    for link in set(links):
        target = (PAGE.parent / unquote(link)).resolve()
        assert target.exists(), link
        assert target.is_relative_to(ROOT / "reports")
