"""``leaderboard.html`` in a real browser: it fits a phone, asks for nothing, and sorts."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ferd_eval.metrics import scorecard
from ferd_eval.report.leaderboard import (
    ScoredGroup,
    leaderboard,
    read_reported,
    write_leaderboard,
)
from tests.eval.report.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")

ROWS = """[...document.querySelectorAll(".board .%s tr")].map((row) => row.cells[0].firstChild
  .textContent)"""
VALUES = '[...document.querySelectorAll(".board .%s tr")].map((row) => +row.cells[%d].dataset.v)'
HEAD = """(() => { const head = document.querySelector(".board thead tr:last-child").cells[%d];
  const button = head.querySelector("button"); button.scrollIntoView({ inline: "center" });
  const box = button.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; })()"""


@pytest.fixture
def page(make_run: Any, tmp_path: Path) -> Path:
    """Four networks and the paper's rows; `make_run` makes the simulation importable."""
    from tests.eval.metrics.simulated_run import simulate

    entries = []
    for seed, name in enumerate(("a", "b", "a rather long name of a network", "d" * 60)):
        run = simulate(seed=seed)
        entries.append(ScoredGroup(name, (Path(name),), (run,), (scorecard(run),)))
    board = leaderboard(entries, read_reported("paper"), sort="given")
    return write_leaderboard(tmp_path, board)[-1]


def right_edge(chromium: Chromium, box: str) -> tuple[float, float]:
    """How far from the page's paper the last pixels of a scrolling table are, and of its middle."""
    left, top, width, height = chromium.ask(f"""(() => {{
      const box = [...document.querySelectorAll({box!r})][0];
      box.scrollIntoView({{ block: "center" }});
      const at = box.getBoundingClientRect();
      return [at.left, at.top, at.width, at.height]; }})()""")
    clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
    sheet = chromium.ask("[scrollX, scrollY]")
    clip |= {"x": left + sheet[0], "y": top + sheet[1]}
    png = chromium.send("Page.captureScreenshot", format="png", clip=clip)["data"]
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"), dtype=float)
    paper = np.median(grey)
    return float(np.median(abs(grey[:, -4:-1] - paper))), float(
        np.median(abs(grey[:, 40:-40] - paper))
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_table_that_goes_on_shows_it(
    chromium: Chromium, page: Path, width: int, dark: bool
) -> None:
    chromium.open(page, width, dark=dark)
    scroll = "document.querySelector('.scroll')"
    assert chromium.ask(f"{scroll}.scrollWidth > {scroll}.clientWidth + 8")
    edge, inside = right_edge(chromium, ".scroll")
    assert (edge > 20, inside) == (True, 0)
    chromium.ask(f"{scroll}.scrollLeft = 1e6")
    assert right_edge(chromium, ".scroll") == (0, 0)
    chromium.ask("document.querySelector('.board').style.display = 'none'")
    chromium.ask(f"{scroll}.append('a table that fits')")
    assert right_edge(chromium, ".scroll") == (0, 0)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_header_sorts_measured_and_published_rows_apart(
    chromium: Chromium, page: Path, width: int
) -> None:
    chromium.open(page, width)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    parts = "[...document.querySelector('.board').tBodies].map((body) => body.className)"
    names = {part: chromium.ask(ROWS % part) for part in ("measured", "reported")}
    for order in (1, -1):
        chromium.click(*chromium.ask(HEAD % 2))
        for part, before in names.items():
            boards = chromium.ask(VALUES % (part, 2))[: 4 if part == "measured" else 12]
            assert boards == sorted(boards, reverse=order < 0)
            assert sorted(chromium.ask(ROWS % part)) == sorted(before)
        assert chromium.ask(parts) == ["measured", "fixed", "reported"]
    assert chromium.requests == [page.as_uri()]
    assert chromium.complaints == []


def test_the_names_stay_in_sight_while_figures_scroll(chromium: Chromium, page: Path) -> None:
    chromium.open(page, 390)
    left = "document.querySelector('.board tbody th').getBoundingClientRect().left"
    before = chromium.ask(left)
    chromium.ask("document.querySelector('.scroll').scrollLeft = 500")
    assert chromium.ask("document.querySelector('.scroll').scrollLeft") > 0
    assert chromium.ask(left) == before
