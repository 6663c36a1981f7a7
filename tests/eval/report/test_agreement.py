"""One number, one printed form: scorecard.json, Markdown, CSV, HTML and terminal agree."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ferd_eval.output import to_json
from ferd_eval.report import render_terminal, view, write_report
from ferd_eval.report.figure import percent, ratio

PERCENT = ("average", "worst_class", "worst_10pct", "sd", "gap", "floor95")
RATIO = ("nsd", "nsd_ddof1", "gini")
GROUPS = {"kind": ("machine", "machine") + ("animal",) * 6 + ("machine", "machine")}


def written(folder: Path, *runs: Any) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in write_report(folder, runs)}


def printed(key: str, value: float | None) -> str:
    """The form every format prints, written down here a second time."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if key in RATIO else f"{100 * value:.1f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def html_rows(html: str) -> list[list[str]]:
    found = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in found]
    return [[unescape(cell) for cell in row] for row in cells]


def markdown_rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("options", [{}, {"targeted": True, "profile": True}, {"empty": [2]}])
def test_every_figure_is_the_same_in_every_format(
    make_run: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = make_run(groups=GROUPS, **options)
    files = written(tmp_path, run)
    card = json.loads(files["scorecard.json"])
    assert card == json.loads(to_json(run.scorecard.to_dict()))
    markdown, html = markdown_rows(files["report.md"]), html_rows(files["report.html"])
    data = json.loads(re.search(r'id="data">(.*?)</script>', files["report.html"])[1])["runs"][0]
    long = {
        (row["attack"], row["scope"], row["grouping"], row["name"], row["metric"]): row
        for row in csv.DictReader(files["report.csv"].splitlines())
    }
    wide = {row["class"]: row for row in csv.DictReader(files["report_wide.csv"].splitlines())}
    shown = view([run]).runs[0].shown.id
    for attack, scores in card["attacks"].items():
        overall = {**scores, "worst_class": scores["worst_class"]["accuracy"]}
        for key in PERCENT + RATIO:
            row = long[attack, "overall", "", "", key]
            assert float(row["value"]) == overall[key]
            assert row["printed"] == printed(key, overall[key])
        keys = ("average", "worst_class", "worst_10pct", "floor95", "nsd")
        summary = [printed(key, overall[key]) for key in keys]
        for rows in (markdown, html):
            assert [row[2:] for row in rows if row[0] == attack and row[2:] == summary]
        for i, each in enumerate(scores["per_class"]):
            name = each["name"]
            texts = [printed("", each["accuracy"])]
            texts += [printed("", end) for end in each["wilson95"] or (None, None)]
            assert data["attacks"][attack]["accuracy"][i] == each["accuracy"]
            assert data["attacks"][attack]["text"][i][:3] == texts
            plain = [text.replace("–", "") for text in texts]
            assert [wide[name][f"{attack}{end}"] for end in ("", " low", " high")] == plain
            value = long[attack, "class", "", name, "accuracy"]
            assert value["printed"] == plain[0]
            assert value["value"] == ("" if each["n"] == 0 else repr(each["accuracy"]))
            drop = long[attack, "class", "", name, "drop"]["printed"]
            assert drop.replace("-", "−") == printed("", each["drop"]).replace("–", "")
            if attack == shown:
                for rows in (markdown, html):
                    assert [row for row in rows if row[:3] == [name, str(each["n"]), texts[0]]]
        for each in card["groups"]["kind"][attack]["per_class"]:
            assert (
                float(long[attack, "group", "kind", each["name"], "accuracy"]["value"])
                == (each["accuracy"])
            )


def test_the_confusion_drawn_is_the_one_counted(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    html = written(tmp_path, run)["report.html"]
    data = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])["runs"][0]
    for attack, scores in run.scorecard.attacks.items():
        cells = data["confusions"][attack]["cells"]
        drawn = [[0] * 10 for _ in range(10)]
        for at in range(0, len(cells), 3):
            drawn[cells[at]][cells[at + 1]] = cells[at + 2]
        assert drawn == scores.confusion.tolist()


def test_tables_and_bars_start_with_the_lowest_class(make_run: Any, tmp_path: Path) -> None:
    run = make_run(empty=[7])
    files = written(tmp_path, run)
    shown = view([run]).runs[0].shown
    scores = run.scorecard.attacks[shown.id].per_class
    present = sorted((c for c in scores if c.n), key=lambda c: (c.accuracy, c.index))
    expected = [c.name for c in present] + ["horse"]
    section = files["report.md"].split("## Classes\n")[1].split("\n## ")[0]
    assert [row[0] for row in markdown_rows(section)][2:] == expected
    bars = files["report.html"].split('<ol class="bars">')[1].split("</ol>")[0]
    assert re.findall(r'class="name">(\w+)<', bars) == expected


def test_several_runs_stand_in_one_table_with_the_best_in_bold(
    make_run: Any, tmp_path: Path
) -> None:
    runs = [make_run("a.pt", seed=1), make_run("b.pt", seed=2), make_run("c.pt", seed=3)]
    files = written(tmp_path, *runs)
    card = json.loads(files["scorecards.json"])
    assert list(card["runs"]) == ["a.pt", "b.pt", "c.pt"]
    averages = {name: card["runs"][name]["attacks"]["aa"]["average"] for name in card["runs"]}
    best = max(averages, key=lambda name: averages[name])
    rows = {row[1]: row for row in markdown_rows(files["report.md"]) if row[0] == "aa"}
    assert set(averages) <= set(rows)
    for name, average in averages.items():
        text = percent(average).text
        assert rows[name][3] == (f"**{text}**" if name == best else text)
    assert files["report.html"].count('<td class="n best"') >= 4 * 4
    long = list(csv.DictReader(files["report.csv"].splitlines()))
    assert {row["run"] for row in long} == set(averages)
    assert len(files["report_wide.csv"].splitlines()) == 1 + 3 * 10


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_prints_the_same_figures_within_its_width(make_run: Any, width: int) -> None:
    run = make_run()
    console = Console(width=width, color_system=None, record=True, file=io.StringIO())
    console.print(render_terminal(view([run])))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    for attack, scores in run.scorecard.attacks.items():
        line = next(line.split() for line in lines if line.split()[:1] == [attack])
        assert line[-5:] == [
            percent(scores.average).text,
            percent(scores.worst_class.accuracy).text,
            percent(scores.worst_10pct).text,
            percent(scores.floor95).text,
            ratio(scores.nsd).text,
        ]
    bars = [line for line in lines if "●" in line]
    assert [line.split()[1] for line in bars] == sorted(
        (line.split()[1] for line in bars), key=float
    )
    assert len(bars) == 10


@pytest.mark.parametrize(
    ("empty", "words"),
    [([], None), ([7], "not shown: 1 class without images"),
     ([0, 3, 7], "not shown: 3 classes without images")],
)  # fmt: skip
def test_classes_without_images_do_not_fill_the_terminal(
    make_run: Any, empty: list[int], words: str | None
) -> None:
    run = make_run(empty=empty)
    console = Console(width=80, color_system=None, record=True, file=io.StringIO())
    console.print(render_terminal(view([run])))
    text = console.export_text().partition("lowest first")[2]
    bars = [line for line in text.splitlines() if "●" in line]
    assert len(bars) == 10 - len(empty)
    drawn = {line.split()[0] for line in bars}
    scores = next(iter(run.scorecard.attacks.values()))
    assert drawn == {each.name for each in scores.per_class if each.n}
    assert (words in text.splitlines()) if words else ("not shown" not in text)


def test_the_scorecard_file_keeps_each_row_of_numbers_on_one_line(
    make_run: Any, tmp_path: Path
) -> None:
    names = ["[\n 1,\n 2\n]", *(f"c{i}" for i in range(4))]
    run = make_run("model.pt", names)
    text = written(tmp_path, run)["scorecard.json"]
    assert json.loads(text) == json.loads(to_json(run.scorecard.to_dict()))
    row = run.scorecard.attacks["aa"].confusion[1].tolist()
    assert f"        {row}," in text.splitlines()
