"""One number, one printed form: scorecard.json, Markdown, CSV, HTML and terminal agree."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ferd_eval.io.json import to_json
from ferd_eval.report import render_terminal, view, write_report
from ferd_eval.report.format import percent, ratio
from tests.eval.report.rows import html_rows, markdown_rows

PERCENT = ("average", "worst_class", "worst_10pct", "sd", "sd_debiased", "gap", "floor95")
RATIO = ("nsd", "nsd_debiased", "nsd_ddof1", "gini")
INTERVALS = ("average95", "worst_class95", "worst_10pct95", "gap95")
AUDITED = {"attacks": ("clean", "aa-audited"), "audits": {"aa-audited": [*range(0, 400, 9)]}}
GROUPS = {"kind": ("machine", "machine") + ("animal",) * 6 + ("machine", "machine")}


def written(folder: Path, *runs: Any) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in write_report(folder, runs)}


def printed(key: str, value: float | None) -> str:
    """The form every format prints, written down here a second time."""
    if value is None:
        return "–"
    text = f"{value:.3f}" if key in RATIO else f"{100 * value:.1f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def between(ends: list[float] | None) -> str:
    """An interval as every table prints it."""
    return "–" if ends is None else f"{printed('', ends[0])} to {printed('', ends[1])}"


def could_be_worst(scores: dict[str, Any]) -> str:
    """The cell of the summary."""
    if scores["possibly_worst"] is None:
        return f"lowest seen: {scores['worst_class']['name']}"
    names = [scores["per_class"][i]["name"] for i in scores["possibly_worst"]]
    if len(names) < 4:
        return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{names[0]}, {names[1]} or one of {len(names) - 2} more"


@pytest.mark.parametrize(
    "options", [{}, {"targeted": True, "profile": True}, {"empty": [2]}, AUDITED]
)
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
        for key in INTERVALS:
            for end, value in zip(("low", "high"), scores[key] or (None, None), strict=True):
                row = long[attack, "overall", "", "", f"{key}_{end}"]
                assert row["value"] == ("" if value is None else repr(value))
                assert row["printed"] == printed("", value).replace("–", "")
        suspects = scores["possibly_worst"]
        count = "" if suspects is None else str(len(suspects))
        assert long[attack, "overall", "", "", "possibly_worst"]["value"] == count
        summary = [printed(key, overall[key]) for key in ("average", "worst_class")]
        summary += [between(scores["worst_class95"])]
        summary += [printed(key, overall[key]) for key in ("worst_10pct", "floor95", "nsd", "sd")]
        summary += [could_be_worst(scores)]
        for rows in (markdown, html):
            assert [attack, *summary] in rows
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
            at_once = each["simultaneous95"]
            for end, value in zip(("low", "high"), at_once or (None, None), strict=True):
                row = long[attack, "class", "", name, f"simultaneous95_{end}"]
                assert row["value"] == ("" if value is None else repr(value))
                assert row["printed"] == printed("", value).replace("–", "")
            worst = None if suspects is None or not each["n"] else i in suspects
            assert data["attacks"][attack]["worst"][i] is worst
            mark = "" if worst is None else str(int(worst))
            assert long[attack, "class", "", name, "possibly_worst"]["value"] == mark
            drop = long[attack, "class", "", name, "drop"]["printed"]
            assert drop.replace("-", "−") == printed("", each["drop"]).replace("–", "")
            if attack == shown:
                start = [name, str(each["n"]), texts[0], between(each["wilson95"])]
                start += [between(at_once), {True: "yes", False: "no", None: "–"}[worst]]
                start += [printed("", each["drop"])]
                for rows in (markdown, html):
                    assert [row for row in rows if row[:7] == start]
        for each in card["groups"]["kind"][attack]["per_class"]:
            assert (
                float(long[attack, "group", "kind", each["name"], "accuracy"]["value"])
                == (each["accuracy"])
            )


@pytest.mark.parametrize(
    "options", [{}, {"per_class": 3}, {"names": [f"c{i}" for i in range(30)]}, AUDITED]
)
def test_the_table_of_uncertainty_says_what_the_scorecard_holds(
    make_run: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = make_run(**options)
    files = written(tmp_path, run)
    shown = view([run]).runs[0].shown.id
    scores = json.loads(files["scorecard.json"])["attacks"][shown]
    scores["worst_class"] = scores["worst_class"]["accuracy"]
    lines = {
        "Average": ("average", "average95"),
        "Worst class": ("worst_class", "worst_class95"),
        "Worst 10 %": ("worst_10pct", "worst_10pct95"),
        "95 % floor": ("floor95", None),
        "SD": ("sd", None),
        "SD, debiased": ("sd_debiased", None),
        "Gap": ("gap", "gap95"),
        "NSD": ("nsd", None),
        "NSD, debiased": ("nsd_debiased", None),
    }
    title = f"How sure are the figures under {shown}?"
    section = files["report.md"].split(f"## {title}\n")[1].split("\n## ")[0]
    page = files["report.html"].split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    for rows in (markdown_rows(section)[2:], html_rows(page)[1:]):
        assert [row[0] for row in rows[:-1]] == list(lines)
        for name, estimate, interval, _ in rows[:-1]:
            key, ends = lines[name]
            assert estimate == printed(key, scores[key])
            assert interval == (between(scores[ends]) if ends else "–")
        _, count, _, among = rows[-1]
        if scores["possibly_worst"] is None:
            assert (count, among) == ("–", "not known: the audit saw only a sample")
        else:
            names = [scores["per_class"][i]["name"] for i in scores["possibly_worst"]]
            assert count == str(len(names))
            assert among.startswith(", ".join(names[:2]))


def test_a_profile_prints_the_intervals_of_each_budget(make_run: Any, tmp_path: Path) -> None:
    files = written(tmp_path, make_run(profile=True))
    profile = json.loads(files["scorecard.json"])["profile"]["pgd"]
    for rows in (markdown_rows(files["report.md"]), html_rows(files["report.html"])):
        for i, eps in enumerate(profile["eps_text"]):
            figures = [printed("", profile["average"][i]), between(profile["average95"][i])]
            figures += [
                printed("", profile["worst_class"][i]),
                between(profile["worst_class95"][i]),
            ]
            assert [eps, *figures] in rows


def test_the_bars_mark_what_could_be_the_worst_class(make_run: Any, tmp_path: Path) -> None:
    run = make_run(per_class=400, empty=[3])
    page = written(tmp_path, run)["report.html"]
    shown = view([run]).runs[0].shown
    suspects = run.scorecard.attacks[shown.id].possibly_worst
    assert 0 < len(suspects) < 9
    marked = re.findall(r'<li data-i="(\d+)" class="suspect" title="[^"]*, could be', page)
    assert {int(i) for i in marked} == set(suspects)
    assert page.count('class="suspect"') == len(suspects)
    legend = re.search(r'<span class="suspects"( hidden)?>', page)
    assert legend[1] is None
    audited = written(tmp_path / "audited", make_run(**AUDITED))["report.html"]
    assert re.search(r'<span class="suspects"( hidden)?>', audited)[1] == " hidden"
    assert 'class="suspect"' not in audited


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
        assert rows[name][2] == (f"**{text}**" if name == best else text)
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
        low, high = scores.worst_class95
        assert line[1:9] == [
            percent(scores.average).text,
            percent(scores.worst_class.accuracy).text,
            *(percent(low).text, "to", percent(high).text),
            percent(scores.worst_10pct).text,
            percent(scores.floor95).text,
            ratio(scores.nsd).text,
        ]
        suspects = {scores.per_class[i].name for i in scores.possibly_worst}
        assert set(" ".join(line[9:]).replace(",", " ").split()) - {"or", "more"} & suspects
    shown = run.scorecard.attacks[view([run]).runs[0].shown.id]
    marked = {line.split()[0] for line in lines if "●" in line and line.split()[2] == "*"}
    assert marked == {shown.per_class[i].name for i in shown.possibly_worst}
    bars = [line for line in lines if "●" in line]
    assert [line.split()[1] for line in bars] == sorted(
        (line.split()[1] for line in bars), key=float
    )
    assert len(bars) == 10


def test_several_runs_fit_a_terminal_without_a_figure_cut(make_run: Any) -> None:
    runs = [make_run(name, seed=i) for i, name in enumerate(("resnet18_cifar10_long.pt", "b.pt"))]
    console = Console(width=80, color_system=None, record=True, file=io.StringIO())
    console.print(render_terminal(view(runs)))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for run in runs:
        low, high = run.scorecard.attacks["aa"].worst_class95
        assert f"{percent(low)} to {percent(high)}" in text


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
