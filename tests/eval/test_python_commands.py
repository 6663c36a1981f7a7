"""The commands as functions: what they write and say is what the shell's commands do, on a quiet
console; figures against pandas.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import ferd_eval
from ferd_eval.cli import app
from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.runtime.command_line import run
from tests.conftest import TinyNet, tiny_data
from tests.eval.metrics.simulated_run import simulate


def saved(folder: Path, seed: int, name: str = "net") -> ferd_eval.Outcomes:
    outcomes = simulate(per_class=12, seed=seed)
    outcomes = replace(
        outcomes,
        manifest={**outcomes.manifest, "checkpoint": {"name": name, "sha256": f"{seed:064x}"}},
    )
    outcomes.save(folder)
    return outcomes


@pytest.fixture
def quiet(tmp_path, monkeypatch, capfd):
    """An empty working folder; nothing may be printed."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Runs a command and forgets what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> None:
        assert run(app, [*map(str, words)], "ferd-eval") in (0, 1)
        capsys.readouterr()

    return call


def right(outcomes: ferd_eval.Outcomes, attack: str) -> pd.Series:
    table = outcomes.table
    return table[table["attack"] == attack].groupby("label")["correct"].mean()


def test_compare_takes_folders_and_outcomes_alike(quiet):
    first, second = saved(quiet / "a", 1, "a"), saved(quiet / "b", 2, "b")
    by_path = ferd_eval.compare("a", quiet / "b")
    in_memory = ferd_eval.compare(first, second)
    assert in_memory.comparison == by_path.comparison
    assert (in_memory.first.name, in_memory.second.name) == ("a", "b")
    found = ferd_eval.compare("a", "b", attack="fgsm", margin=0.2).comparison
    assert found.margin == 0.2
    for each in found.per_class:
        ours, theirs = (right(of, "fgsm")[each.index] for of in (first, second))
        assert (each.first, each.second) == pytest.approx((ours, theirs))
        assert each.value == pytest.approx(theirs - ours)
    assert sorted(file.name for file in quiet.iterdir()) == ["a", "b"]


def test_compare_takes_methods_in_memory(quiet):
    first, second = ([simulate(per_class=12, seed=10 * m + s) for s in range(3)] for m in (0, 1))
    for runs in (first, second):
        for i, run_ in enumerate(runs):
            runs[i] = replace(run_, manifest={**run_.manifest, "checkpoint": {}})
    report = ferd_eval.compare(first, second, reference=first[0])
    assert report.comparison.seeds == (3, 3)
    assert [group.name for group in report.groups] == ["first", "second", "reference"]
    mean = pd.concat([right(of, report.attack) for of in second], axis=1).mean(axis=1)
    assert [each.second for each in report.comparison.per_class] == pytest.approx(mean.tolist())


def test_compare_writes_what_the_command_writes(shell, tmp_path):
    saved(tmp_path / "a", 1), saved(tmp_path / "b", 2)
    shell("compare", "a", "b", "--attack", "pgd", "--margin", "0.05", "--out", "by-shell")
    ferd_eval.compare("a", "b", attack="pgd", margin=0.05, out="by-python")
    for name in ("compare.json", "compare.csv", "compare.md", "compare.html"):
        assert Path("by-python", name).read_text() == Path("by-shell", name).read_text()


def test_leaderboard_writes_what_the_command_writes(shell, tmp_path):
    for seed in range(4):
        saved(tmp_path / "m" / f"seed-{seed}", seed)
    shell("leaderboard", "one=m/seed-0,m/seed-1", "two=m/seed-2,m/seed-3", "--attacks", "pgd,clean",
          "--sort", "name", "--out", "by-shell")  # fmt: skip
    rows = {"one": ["m/seed-0", "m/seed-1"], "two": [Path("m/seed-2"), Path("m/seed-3")]}
    ferd_eval.leaderboard(rows, attacks=["pgd", "clean"], sort="name", out="by-python")
    for name in ("leaderboard.json", "leaderboard.tex", "leaderboard.html"):
        assert Path("by-python", name).read_text() == Path("by-shell", name).read_text()


def test_a_leaderboard_is_silent_about_what_it_leaves_out_until_asked(quiet, caplog):
    saved(quiet / "m" / "full", 1)
    (quiet / "m" / "stopped").mkdir()
    (quiet / "m" / "stopped" / "manifest.json").write_text('{"attacks": {}, "unit_images": 1}')
    assert len(ferd_eval.leaderboard("m").boards[0].rows) == 1
    assert caplog.messages == []
    with caplog.at_level(logging.INFO, "ferd_eval"):
        ferd_eval.leaderboard(Path("m"))
    assert caplog.messages == ["left out: m/stopped is an unfinished run."]


def test_gate_passes_and_fails_as_the_limits_say(quiet):
    outcomes = saved(quiet / "a", 1)
    lowest = right(outcomes, "fgsm").min()
    passed = ferd_eval.gate("a", floor=0.01, attack="fgsm")
    failed = ferd_eval.gate(Path("a"), floor=float(lowest), attack="fgsm")
    assert (passed.passed, failed.passed) == (True, False)
    assert failed.floor.value == pytest.approx(lowest)
    assert ferd_eval.gate("a", max_drop="99%").passed


@pytest.fixture
def predictions(tmp_path) -> pd.DataFrame:
    table = pd.DataFrame({"index": range(30), "label": [0, 1, 2] * 10})
    table["pred"] = [(i if i % 4 else i + 1) % 3 for i in range(30)]
    table.to_csv(tmp_path / "preds.csv", index=False)
    return table


def test_predictions_become_a_run(quiet, predictions):
    outcomes = ferd_eval.import_predictions(
        {"pgd": "preds.csv"}, classes=["cat", "dog, or fox", "ship"], eps="8/255"
    )
    scores = ferd_eval.scorecard(outcomes).attacks["pgd"]
    wanted = (predictions["pred"] == predictions["label"]).groupby(predictions["label"]).mean()
    assert [each.accuracy for each in scores.per_class] == pytest.approx(wanted.tolist())
    assert scores.per_class[1].name == "dog, or fox"
    assert outcomes.manifest["attacks"]["pgd"]["eps_text"] == "8/255"
    assert outcomes.manifest["checkpoint"]["name"] == "preds"
    assert [file.name for file in quiet.iterdir()] == ["preds.csv"]


def test_import_writes_what_the_command_writes(shell, predictions):
    shell("import", "preds.csv=pgd", "--classes", "a,b,c", "--name", "x", "--out", "by-shell")
    ferd_eval.import_predictions("preds.csv=pgd", "by-python", classes="a,b,c", name="x")
    assert Path("by-python/scorecard.json").read_text() == (
        Path("by-shell/scorecard.json").read_text()
    )
    again = ferd_eval.Outcomes.load("by-python")
    assert again.table.equals(ferd_eval.Outcomes.load("by-shell").table)


def test_report_is_a_function_and_a_package(quiet):
    saved(quiet / "a", 1)
    (page,) = ferd_eval.report("a", audit=True)
    assert page.samefile(quiet / "a" / "report.html")
    assert (quiet / "a" / "audit.json").exists()
    from ferd_eval.report import view
    from ferd_eval.report.api import report

    assert callable(view)
    assert report(Path("a")) == (page,)
    assert ferd_eval.report("a", groups=None) == (page,)


def test_a_classifier_from_a_file_scores_as_the_command_does(shell, tmp_path):
    with demo_checkpoints() as files:
        (tmp_path / "net.safetensors").write_bytes(files[0].read_bytes())
    _write_groups(tmp_path)
    shell("score", "net.safetensors", "--dataset", "demo", "--attacks", "clean,fgsm",
          "--per-class", "4", "--groups", "groups.csv", "--out", "by-shell")  # fmt: skip
    outcomes = ferd_eval.score(
        ferd_eval.load_classifier("net.safetensors"), "demo", "clean,fgsm", per_class=4,
        groups="groups.csv", out="by-python", device="auto",
    )  # fmt: skip
    shells = ferd_eval.Outcomes.load("by-shell")
    assert outcomes.table.equals(shells.table)
    for key in ("checkpoint", "model", "groups", "warnings", "trial", "threat", "attacks"):
        assert outcomes.manifest[key] == shells.manifest[key], key
    assert outcomes.manifest["dataset"]["selection"] == "first 4 per class"
    finished = ferd_eval.score(
        ferd_eval.load_classifier(tmp_path / "net.safetensors"), "demo", "clean,fgsm",
        per_class=4, groups="groups.csv", out="by-python",
    )  # fmt: skip
    assert finished.table.equals(outcomes.table)


def _write_groups(folder: Path) -> None:
    names = ferd_eval.load_dataset("demo").class_names
    lines = [f"{name},{'odd' if i % 2 else 'even'}" for i, name in enumerate(names)]
    (folder / "groups.csv").write_text("\n".join(["class,group", *lines]))


def test_a_wrong_normalisation_is_said_in_the_record(quiet):
    with demo_checkpoints() as files:
        model = ferd_eval.load_classifier(files[1], normalize="0.9/0.05")
        outcomes = ferd_eval.score(model, "demo", "clean")
    assert any("--normalize" in said for said in outcomes.manifest["warnings"])


def test_score_selects_images_and_refuses_two_ways(quiet):
    assert len(ferd_eval.score(TinyNet(), tiny_data(), "clean", limit=7).table) == 7
    found = ferd_eval.score(TinyNet(), tiny_data(), "clean", per_class=2).table
    assert found["label"].value_counts().max() == 2
    with pytest.raises(ferd_eval.UserError, match="exclude each other"):
        ferd_eval.score(TinyNet(), tiny_data(), "clean", limit=7, per_class=2)
    with pytest.raises(ferd_eval.UserError, match="--engine is 'natve'"):
        ferd_eval.score(TinyNet(), tiny_data(), "clean", engine="natve")


def test_progress_is_shown_where_it_is_asked_for(capsys):
    ferd_eval.score(TinyNet(), tiny_data(), "clean", progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


WRONG = {
    "comparing a table": lambda: ferd_eval.compare(pd.DataFrame(), "b"),
    "comparing nothing": lambda: ferd_eval.compare([], "b"),
    "comparing with a margin by name": lambda: ferd_eval.compare("a", "a", margin="small"),
    "comparing a run with itself": lambda: ferd_eval.compare(*[simulate(per_class=4)] * 2),
    "ranking outcomes": lambda: ferd_eval.leaderboard([simulate(per_class=4)]),
    "ranking nothing": lambda: ferd_eval.leaderboard([]),
    "ranking a missing run": lambda: ferd_eval.leaderboard("nowhere"),
    "judging by nothing": lambda: ferd_eval.gate("nowhere"),
    "importing nothing": lambda: ferd_eval.import_predictions([]),
    "importing a table": lambda: ferd_eval.import_predictions(pd.DataFrame()),
    "a report of outcomes": lambda: ferd_eval.report(simulate(per_class=4)),
    "loading a network": lambda: ferd_eval.load_classifier(TinyNet()),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_said_in_a_line(call, quiet):
    with pytest.raises(ferd_eval.UserError) as caught:
        call()
    said = str(caught.value)
    assert len(said) < 300
    assert any(word in said.lower() for word in ("give", "there is no", "score"))
