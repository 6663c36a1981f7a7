"""Can these figures be trusted? Every format says the same, and says when nobody looked."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ferd_eval.report import percent, render_terminal, view, write_report

K = 10


def tally(count: int, n: int = 26) -> dict[str, Any]:
    by_class = {"n_by_class": [n] * K, "count_by_class": [count] * K}
    return {"n": n * K, "count": count * K, "changed": count, **by_class}


DIAGNOSIS = {
    "softmax": tally(26),
    "randomised": tally(0),
    "batch_dependent": tally(0),
    "zero_gradients": {"cross-entropy": tally(26), "margin": tally(0), "targeted DLR": tally(1)},
    "far": {"eps": 32 / 255, "eps_text": "32/255", **tally(0)},
    "loss": {"steps": [1, 5, 10, 20], "mean": [1.0, 2.0, 2.5, 2.75], **tally(25)},
}


@pytest.fixture
def files(make_run: Any, tmp_path: Path) -> dict[str, str]:
    run = make_run(profile=True, diagnosis=DIAGNOSIS)
    return {file.name: file.read_text("utf-8") for file in write_report(tmp_path, [run])}


def test_every_check_stands_in_every_format(files: dict[str, str]) -> None:
    checks = json.loads(files["scorecard.json"])["trust"]["checks"]
    assert {each["status"] for each in checks} == {"ok", "warning", "not measured"}
    section = files["report.md"].split("## Can these figures be trusted?")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    listed = re.search(r'<ul class="checks">(.*?)</ul>', files["report.html"], re.DOTALL)[1]
    # A page keeps ε and its value on one line.
    items = [unescape(item).replace("ε\xa0=\xa0", "ε = ") for item in listed.split("<li")[1:]]
    assert len(rows) == len(items) == len(checks)
    for check in checks:
        (row,) = (row for row in rows if row[0] == f"| {check['name']}")
        assert row[1:3] == [check["status"], check["statement"].replace("[", "\\[")]
        (item,) = (item for item in items if f">{check['name']} <" in item)
        assert check["statement"] in item.replace("\xa0%", " %")
        assert f'class="{check["status"].replace(" ", "-")}"' in item
        assert f'class="status">{check["status"]}<' in item  # not told by colour alone
        counts = check["per_class"] or {"n": [], "count": []}
        told = re.findall(r"\xa0(\d+) of (\d+)", item)
        assert [(int(c), int(n)) for c, n in told] == [
            (c, n) for c, n in zip(counts["count"], counts["n"], strict=True) if n
        ]
    assert [row[1] for row in rows] == sorted(
        (row[1] for row in rows), key=["warning", "ok", "not measured"].index
    )


def test_warnings_open_the_report_and_the_terminal_too(make_run: Any) -> None:
    run = make_run(diagnosis=DIAGNOSIS)
    shown = view([run]).runs[0]
    (softmax,) = (each for each in shown.warnings if "probabilities, not logits" in each)
    assert softmax in run.scorecard.flags
    console = Console(width=4000, color_system=None, record=True, quiet=False, stderr=True)
    console.print(render_terminal(view([run])))
    assert f"warning: {softmax}" in console.export_text()


def test_a_run_from_before_says_that_nobody_looked(make_run: Any, tmp_path: Path) -> None:
    run = make_run(attacks=["clean", "pgd"])
    table = view([run]).runs[0].tables["trust"][0]
    assert [row[1] for row in table.rows] == ["ok"] + ["not measured"] * 12
    assert "0 warnings, 1 without a finding, 12 not measured" in table.note
    write_report(tmp_path, [run])


def test_the_gap_of_each_class_stands_widest_first(make_run: Any, files: dict[str, str]) -> None:
    run = make_run(profile=True, empty=[3])
    attacks = run.scorecard.attacks
    (table,) = view([run]).runs[0].tables["gaps"]
    assert table.title == "Gap by class: pgd − aa"
    for name, n, pgd, aa, gap, interval in table.rows[:-1]:
        (i,) = (each.index for each in attacks["aa"].per_class if each.name == name)
        before, after = (attacks[attack].per_class[i].accuracy for attack in ("pgd", "aa"))
        assert (n.value, pgd, aa) == (40, percent(before), percent(after))
        assert gap.value == pytest.approx(before - after)
        low, high = (float(end.replace("−", "-")) for end in interval.split(" to "))
        assert low <= 100 * gap.value <= high
    gaps = [row[4].value for row in table.rows[:-1]]
    assert gaps == sorted(gaps, reverse=True)
    assert [str(cell) for cell in table.rows[-1]] == ["cat", "0", "–", "–", "–", "–"]
    assert "## Gap by class: pgd − aa" in files["report.md"]
    assert "<h2>Gap by class: pgd − aa</h2>" in files["report.html"]


def test_names_of_classes_are_escaped(make_run: Any, tmp_path: Path) -> None:
    names = ["<b>|x</b>", *map(str, range(9))]
    in_one = {**tally(0), "count": 26, "count_by_class": [26] + [0] * 9}
    run = make_run("m", names, diagnosis={"far": {**DIAGNOSIS["far"], **in_one}})
    (check,) = (each for each in run.scorecard.trust.checks if each.name == "Accuracy at 4ε")
    assert check.classes == ("<b>|x</b>",)
    files = {file.name: file.read_text("utf-8") for file in write_report(tmp_path, [run])}
    assert "<b>|x" not in files["report.html"].replace(names[0].replace("<", "\\u003c"), "")
    assert "(&lt;b&gt;|x&lt;/b&gt;)" in files["report.html"]
    assert "<b>" not in files["report.md"]
