"""The page in a real browser: no error, no request, charts and headers that answer."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.metrics import scorecard
from ferd_eval.report import Run, percent, view, write_report
from ferd_eval.report.format import span
from ferd_eval.report.run.model import RunView
from tests.eval.report.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")

BARS = """[...document.querySelectorAll("article:not([hidden]) .bars li")].map((li) =>
  [li.querySelector(".name").textContent, li.querySelector(".value").textContent])"""
MARKED = """[...document.querySelectorAll("article:not([hidden]) .suspect .name")].map((name) =>
  name.textContent).sort()"""
CHOOSE = """(() => { const select = document.getElementById("attack"); select.value = "%s";
  select.dispatchEvent(new Event("change")); })()"""
#: Contrast of text against what lies behind it (WCAG 2).
CONTRAST = """(() => {
  const part = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => { const [r, g, b] = rgb.match(/[0-9.]+/g).map((v) => part(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour; } };
  return Math.min(...[...document.querySelectorAll("p, td, th, h2, h3, li .name, .warnings li")]
    .filter((element) => element.offsetParent).map((element) => {
      const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
})()"""
#: How far the middle of each number on an axis is from where the number lies, in pixels; `charts`
#: are the visible ones: what holds the ticks, what they measure, and what stands at its ends.
OFF_AXIS = """(() => {
  const value = (text) => { const [top, bottom] = text.replace("\u2212", "-").split("/");
    return top / (bottom || 1); };
  const off = [];
  const visible = [...document.querySelectorAll("%s")].filter((box) => box.offsetParent);
  for (const box of visible) {
    const spans = [...box.querySelectorAll(".ticks span, .y-ticks span")];
    const upright = (span) => Boolean(span.closest(".y-ticks"));
    const places = box.matches(".axis") ? [...box.nextElementSibling.querySelectorAll(".track")]
      : [box.querySelector(".plot")];
    const ends = (tick) => { const all = spans.filter((span) => upright(span) === upright(tick))
      .map((span) => value(span.textContent));
      return [Math.min(0, ...all), Math.max(...all)]; };
    for (const span of spans) for (const place of places) {
      const [low, high] = ends(span);
      const share = (value(span.textContent) - low) / (high - low);
      const tick = span.getBoundingClientRect(), on = place.getBoundingClientRect();
      off.push(upright(span) ? tick.top + tick.height / 2 - (on.bottom - share * on.height)
        : tick.left + tick.width / 2 - (on.left + share * on.width));
    }
  }
  return [visible.length, off.length, Math.max(...off.map(Math.abs))]; })()"""
#: Marks of the side-by-side chart that lie on one another: none may.
COVERED = """(() => { const boxes = [...document.querySelectorAll(".pairs .lane .mark")]
    .map((mark) => mark.getBoundingClientRect());
  return boxes.filter((a, i) => boxes.some((b, j) => j > i && a.left < b.right - 0.5
    && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5)).length; })()"""
#: Accuracy and interval of each mark, read off the chart's own track.
LANES = """[...document.querySelectorAll(".pairs .lane")].map((lane) => {
  const track = lane.getBoundingClientRect(), at = (x) => (x - track.left) / track.width;
  const ends = lane.querySelector("b").getBoundingClientRect();
  const mark = lane.querySelector(".mark").getBoundingClientRect();
  return [at(ends.left), at((mark.left + mark.right) / 2), at(ends.right)]; })"""
TABLE = """[...document.querySelectorAll("table.sortable")].find((table) =>
  table.tHead.textContent.startsWith("Class"))"""


def write(folder: Path, *runs: Any) -> tuple[Path, RunView]:
    page = next(file for file in write_report(folder, runs) if file.suffix == ".html")
    return page, view(runs).runs[0]


def names_and_values(shown: Any) -> list[list[str]]:
    return [[line.name, percent(line.accuracy).text] for line in shown.lowest_first]


@pytest.mark.parametrize("classes", [10, 120])
def test_the_page_works_at_the_width_of_a_phone(
    chromium: Chromium, make_run: Any, tmp_path: Path, classes: int
) -> None:
    names = [f"a rather long class name {i}" if i % 9 == 0 else f"c{i}" for i in range(classes)]
    page, run = write(tmp_path, make_run("m", names, 20, targeted=True, profile=True))
    chromium.open(page, 390)
    assert chromium.ask("document.documentElement.scrollWidth") <= 390
    assert chromium.ask(BARS) == names_and_values(run.shown)
    assert chromium.ask(MARKED) == sorted(run.shown.possibly_worst)
    options = chromium.ask('[...document.getElementById("attack").options].map((o) => o.value)')
    assert options == list(run.attacks)
    chromium.ask(CHOOSE % "clean")
    assert chromium.ask(BARS) == names_and_values(run.attacks["clean"])
    assert chromium.ask(MARKED) == sorted(run.attacks["clean"].possibly_worst)
    ink = """(() => { const canvas = document.querySelector(".map.attacked canvas");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.width, canvas.height, new Set(pixels.data).size]; })()"""
    width, height, colours = chromium.ask(ink)
    assert min(width, height) > 200
    assert colours > 20
    assert chromium.ask("document.documentElement.scrollWidth") <= 390
    assert chromium.requests == [page.as_uri()]
    assert chromium.complaints == []


def test_the_marks_go_where_the_worst_class_is_not_known(
    chromium: Chromium, make_run: Any, tmp_path: Path
) -> None:
    audits = {"aa-audited": [*range(0, 400, 9)]}
    page, _ = write(tmp_path, make_run(attacks=("clean", "pgd", "aa-audited"), audits=audits))
    chromium.open(page, 1280)
    legend = 'getComputedStyle(document.querySelector(".suspects")).display'
    assert (chromium.ask(MARKED), chromium.ask(legend)) == ([], "none")
    chromium.ask(CHOOSE % "pgd")
    assert chromium.ask(MARKED)
    assert chromium.ask(legend) != "none"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_header_sorts_by_mouse_and_by_keyboard(
    chromium: Chromium, make_run: Any, tmp_path: Path, width: int
) -> None:
    page, run = write(tmp_path, make_run(empty=[4]))
    chromium.open(page, width)
    column = f"[...({TABLE}).tBodies[0].rows].map((row) => row.cells[%d].textContent)"
    order = f'({TABLE}).tHead.rows[0].cells[%d].getAttribute("aria-sort")'
    place = f"""(() => {{ const head = ({TABLE}).tHead.rows[0].cells[2].querySelector("button");
      head.scrollIntoView({{ block: "center", inline: "center" }});
      const box = head.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
    up = [percent(line.accuracy).text for line in run.shown.lowest_first]
    down = [*reversed(up[:-1]), "–"]  # what has no value stays last
    assert chromium.ask(column % 2) == up
    chromium.click(*chromium.ask(place))
    assert (chromium.ask(column % 2), chromium.ask(order % 2)) == (up, "ascending")
    chromium.click(*chromium.ask(place))
    assert (chromium.ask(column % 2), chromium.ask(order % 2)) == (down, "descending")
    chromium.press("Tab", 9)
    chromium.press("Enter", 13, "\r")
    lows = sorted((line.wilson95[0], str(span(line.wilson95)))
                  for line in run.shown.scores.per_class if line.wilson95)  # fmt: skip
    assert sorted(chromium.ask(column % 3)[:-1]) == sorted(text for _, text in lows)
    assert [text.split()[0] for text in chromium.ask(column % 3)][:-1] == [
        percent(low).text for low, _ in lows
    ]
    assert chromium.ask(order % 2) is None
    chromium.press(" ", 32, " ")
    assert chromium.ask(order % 3) == "descending"
    assert [text.split()[0] for text in chromium.ask(column % 3)][:-1] == [
        percent(low).text for low, _ in reversed(lows)
    ]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert chromium.ask(outline) == "solid"
    assert chromium.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(
    chromium: Chromium, make_run: Any, tmp_path: Path, dark: bool
) -> None:
    page, _ = write(tmp_path, make_run(targeted=True, profile=True, empty=[2]))
    chromium.open(page, 1280, dark=dark)
    paper = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", paper)[0]) < 128) is dark
    assert chromium.ask(CONTRAST) >= 4.5


def test_it_prints_whole_tables_without_controls(
    chromium: Chromium, make_run: Any, tmp_path: Path
) -> None:
    names = [f"c{i}" for i in range(60)]
    page, _ = write(tmp_path, make_run("m", names, 20))
    chromium.open(page, 1280, dark=True)
    pdf = base64.b64decode(chromium.send("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4  # the tables are not cut to a window
    chromium.open(page, 700)  # as wide as A4 within its margins
    chromium.send("Emulation.setEmulatedMedia", media="print")
    assert chromium.ask("document.documentElement.scrollWidth") <= 700
    assert chromium.ask("getComputedStyle(document.querySelector('.controls')).display") == "none"
    hidden = """[...document.querySelectorAll(".scroll")].filter((box) =>
      box.scrollHeight > box.clientHeight + 1).length"""
    assert chromium.ask(hidden) == 0
    assert chromium.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_several_runs_open_without_an_error(
    chromium: Chromium, make_run: Any, tmp_path: Path
) -> None:
    page, _ = write(
        tmp_path, *(make_run(name, seed=i, empty=[i]) for i, name in enumerate(("a", "b", "c")))
    )
    chromium.open(page, 390)
    assert chromium.ask("document.documentElement.scrollWidth") <= 390
    assert chromium.ask('document.querySelectorAll("article[hidden]").length') == 2
    marks = '[1, 2, 3].map((k) => document.querySelectorAll(".track .m" + k).length)'
    assert chromium.ask(marks) == [9, 9, 9]
    assert chromium.complaints == []


@pytest.mark.parametrize("width", [390, 640, 1280])
def test_numbers_stand_on_their_axes(
    chromium: Chromium, make_run: Any, tmp_path: Path, width: int
) -> None:
    runs = [make_run(name, seed=i, profile=True) for i, name in enumerate("ab")]
    page, _ = write(tmp_path, *runs)
    chromium.open(page, width)
    charts = {
        ".axis.pairs": (1, 5 * 10),
        ".axis:not(.pairs)": (1, 5 * 10),
        ".scatter": (1, 10),
        ".lines": (1, 5 + 4),
    }
    for chart, counts in charts.items():
        *found, off = chromium.ask(OFF_AXIS % chart)
        assert tuple(found) == counts, chart
        assert off <= 1, chart
    assert chromium.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_equal_networks_side_by_side_are_both_seen(
    chromium: Chromium, make_run: Any, tmp_path: Path, width: int
) -> None:
    page, run = write(tmp_path, make_run("a"), make_run("b"), make_run("c", empty=[0]))
    chromium.open(page, width)
    assert chromium.ask(COVERED) == 0
    page, run = write(tmp_path, make_run("a"), make_run("b"))
    chromium.open(page, width)
    assert chromium.ask(COVERED) == 0
    read = chromium.ask(LANES)
    wanted = [
        [line.wilson95[0], line.accuracy, line.wilson95[1]]
        for line in run.shown.lowest_first
        for _ in "ab"
    ]
    assert [value for lane in read for value in lane] == pytest.approx(
        [value for lane in wanted for value in lane], abs=0.005
    )


def test_labels_of_near_budgets_do_not_run_into_each_other(
    chromium: Chromium, make_run: Any, tmp_path: Path
) -> None:
    from tests.eval.metrics.simulated_run import constants, rows, run

    tables = [rows("clean", [0, 1], [0, 1])]
    of = {"clean": constants("clean")}
    for text in ("1/255", "2/255", "3/255", "4/255", "16/255"):
        name = f"pgd@{text}"
        tables.append(rows(name, [0, 1], [0, 0], [0, 1]))
        of[name] = constants(name, int(text.split("/")[0]) / 255, text)
    outcomes = run(tables, "ab", of)
    page, _ = write(tmp_path, Run("m", scorecard(outcomes), outcomes.manifest))
    chromium.open(page, 390)
    ticks = """[...document.querySelectorAll(".lines .ticks span")].map((span) => {
      const box = span.getBoundingClientRect();
      return [box.left, box.right, span.textContent]; })"""
    boxes = sorted(chromium.ask(ticks))
    assert [boxes[0][2], boxes[-1][2]] == ["0", "16/255"]
    assert all(a[1] < b[0] for a, b in zip(boxes, boxes[1:], strict=False))
    assert boxes[-1][1] <= 390
