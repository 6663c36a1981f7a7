"""The page in a real browser: no error, nothing wider than a phone, charts that answer."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.report import percent, view, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

# Runs in a page around the report, as wide as a phone.
PROBE = """
addEventListener("load", () => {
  const inner = document.querySelector("iframe").contentDocument;
  const article = inner.querySelector("article:not([hidden])");
  const bars = () => [...article.querySelectorAll(".bars li")].map((li) =>
    [li.querySelector(".name").textContent, li.querySelector(".value").textContent]);
  const found = { width: inner.documentElement.scrollWidth, before: bars() };
  const select = inner.getElementById("attack");
  found.attacks = [...select.options].map((option) => option.value);
  select.value = "clean";
  select.dispatchEvent(new Event("change"));
  found.after = bars();
  const table = [...inner.querySelectorAll("table.sortable")].find((t) =>
    t.tHead.textContent.startsWith("Class"));
  const button = table.tHead.rows[0].cells[2].querySelector("button");
  button.click(); button.click();
  found.sorted = [...table.tBodies[0].rows].map((row) => row.cells[2].textContent);
  const canvas = article.querySelector(".map.attacked canvas");
  found.map = [canvas.width, canvas.height];
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  found.ink = new Set(pixels.data).size;
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """The DOM after the scripts ran, and what the console said."""
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr",
            "--window-size=800,900", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"chromium does not run here: {done.stderr[-200:]}")
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("classes", [10, 120])
def test_the_page_works_at_the_width_of_a_phone(
    make_run: Any, tmp_path: Path, classes: int
) -> None:
    names = [f"a rather long class name {i}" if i % 9 == 0 else f"c{i}" for i in range(classes)]
    run = make_run("m", names, 20, targeted=True, profile=True)
    report = write_report(tmp_path / "report", [run])[-1].read_text("utf-8")
    page = tmp_path / "phone.html"
    page.write_text(
        f"<iframe style='width:390px;height:800px;border:0' srcdoc='{html.escape(report)}'>"
        f"</iframe><pre id=found></pre><script>{PROBE}</script>",
        "utf-8",
    )
    dom, console = browse(page, tmp_path / "profile")
    assert console == ""
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom)[1]))
    assert found["width"] <= 390
    assert found["attacks"] == list(run.scorecard.attacks)
    shown = view([run]).runs[0]
    assert found["before"] == [[c.name, c.accuracy.text] for c in shown.shown.lowest_first]
    clean = shown.attacks["clean"].lowest_first
    assert found["after"] == [[c.name, c.accuracy.text] for c in clean]
    column = sorted((c.accuracy for c in shown.shown.classes), key=lambda f: f.value or 0)
    assert found["sorted"] == [percent(f.value).text for f in reversed(column)]
    assert min(found["map"]) > 200
    assert found["ink"] > 20


def test_several_runs_open_without_an_error(make_run: Any, tmp_path: Path) -> None:
    runs = [make_run(name, seed=i, empty=[i]) for i, name in enumerate(("a", "b", "c"))]
    page = write_report(tmp_path / "report", runs)[-1]
    dom, console = browse(page, tmp_path / "profile")
    assert console == ""
    assert 'class="js"' in dom
    assert len(re.findall(r"<article[^>]* hidden", dom)) == 2
    assert [dom.count(f'class="mark m{k}" style') for k in (1, 2, 3)] == [9, 9, 9]
