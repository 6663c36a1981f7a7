"""``ferd-eval leaderboard``: which folders become which rows, what is written, and what is said."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.eval.report.leaderboard.latex_table import read_tables


@pytest.fixture
def command(run_command: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Run a command in an empty folder; its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    return partial(run_command, "leaderboard")


def saved(folder: Path, seed: int, *, recipe: dict[str, Any] | None = None) -> None:
    """A finished run in a folder; its checkpoint is called `student` whatever the folder."""
    from tests.eval.metrics.simulated_run import simulate

    outcomes = simulate(per_class=12, seed=seed)
    checkpoint = {"name": "student", "sha256": f"{seed:064x}"}
    if recipe is not None:
        checkpoint["recipe"] = recipe
    outcomes = replace(outcomes, manifest={**outcomes.manifest, "checkpoint": checkpoint})
    outcomes.save(folder)


def study(folder: Path, methods: tuple[str, ...] = ("a", "b"), seeds: int = 3) -> None:
    for m, method in enumerate(methods):
        for seed in range(seeds):
            saved(folder / method / f"seed-{seed}" / "full", 10 * m + seed)


def rows(folder: Path = Path("reports/leaderboard")) -> dict[str, int]:
    """Name → number of networks, as the file says."""
    board = json.loads((folder / "leaderboard.json").read_text("utf-8"))
    return {row["name"]: row["seeds"] for table in board["tables"] for row in table["rows"]}


def test_every_file_is_written_and_the_page_is_the_last_line(command: Any, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    status, out, err = command("one", "--out", "board")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "board/leaderboard.html"
    written = {file.name for file in (tmp_path / "board").iterdir()}
    assert written == {f"leaderboard.{kind}" for kind in ("md", "csv", "tex", "html", "json")}


def test_the_default_folder_is_under_reports(command: Any, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    assert command("one")[1].splitlines()[-1] == "reports/leaderboard/leaderboard.html"


def test_json_is_the_file_and_the_path_goes_to_standard_error(command: Any, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    status, out, err = command("one", "--json", "--out", "board")
    assert status == 0
    assert out == (tmp_path / "board" / "leaderboard.json").read_text("utf-8")
    assert err == "board/leaderboard.html\n"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["s/a/seed-0/full"], {"student": 1}),
        (["s/a/seed-0/full", "s/b/seed-0/full"], {"a": 1, "b": 1}),
        (["s/a"], {"seed-0": 1, "seed-1": 1, "seed-2": 1}),
        (["s"], {f"{m}/seed-{s}": 1 for m in "ab" for s in range(3)}),
        (["s", "--group-seeds"], {"a": 3, "b": 3}),
        (["mine=s/a", "s/b/seed-0/full"], {"mine": 3, "student": 1}),
        (["s/a/seed-0/full,s/a/seed-1/full,s/a/seed-2/full"], {"a": 3}),
        (
            ["s/a/seed-0/full,s/a/seed-1/full,s/a/seed-2/full", "s/b/seed-0,s/b/seed-1,s/b/seed-2"],
            {"a": 3, "b": 3},
        ),
        (["x=s/a/seed-0/full,s/a/seed-1/full", "y=s/b/seed-2/full"], {"x": 2, "y": 1}),
    ],
)
def test_which_folders_are_one_row(
    command: Any, tmp_path: Path, arguments: list[str], wanted: dict[str, int]
) -> None:
    study(tmp_path / "s")
    status, _, err = command(*arguments)
    assert (status, err) == (0, "")
    assert rows() == wanted


def test_seeds_are_grouped_by_the_recipe_where_a_run_records_it(
    command: Any, tmp_path: Path
) -> None:
    for i, (lr, seed) in enumerate((lr, seed) for lr in (1, 2) for seed in (5, 3, 4)):
        saved(tmp_path / "runs" / f"r{i}", i, recipe={"lr": lr, "seed": seed})
    assert command("runs", "--group-seeds")[0] == 0
    assert rows() == {"r0, r1, r2": 3, "r3, r4, r5": 3}
    board = json.loads(Path("reports/leaderboard/leaderboard.json").read_text("utf-8"))
    details = {each["title"]: each for each in board["tables"][0]["details"]}
    seeds = [row[1] for row in details["Where the rows come from"]["rows"]]
    assert seeds == ["3", "4", "5"] * 2


def test_seed_10_comes_after_seed_9(command: Any, tmp_path: Path) -> None:
    for seed in (2, 9, 10):
        saved(tmp_path / "s" / f"seed-{seed}", seed)
    assert command("s", "--sort", "given")[0] == 0
    assert list(rows()) == ["seed-2", "seed-9", "seed-10"]


def test_a_folder_with_a_comma_or_an_equals_sign_in_its_name_is_a_folder(
    command: Any, tmp_path: Path
) -> None:
    saved(tmp_path / "a,b", 1)
    saved(tmp_path / "lr=1", 2)
    assert command("a,b", "lr=1")[0] == 0
    assert rows() == {"a,b": 1, "lr=1": 1}


def test_an_unfinished_run_is_left_out_and_said(command: Any, tmp_path: Path) -> None:
    study(tmp_path / "s", ("a",))
    (tmp_path / "s" / "a" / "seed-1" / "full" / "outcomes.parquet").unlink()
    manifest = tmp_path / "s" / "a" / "seed-1" / "full" / "manifest.json"
    record = json.loads(manifest.read_text("utf-8")) | {"unit_images": 128, "status": "running"}
    manifest.write_text(json.dumps(record), "utf-8")
    status, _, err = command("s")
    assert (status, err) == (0, "left out: s/a/seed-1/full is an unfinished run.\n")
    assert len(rows()) == 2


def test_published_rows_stand_apart(command: Any, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    assert command("one", "--reported", "paper")[0] == 0
    text = Path("reports/leaderboard/leaderboard.csv").read_text("utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    kinds = {(line["kind"], line["dataset"]) for line in lines}
    assert kinds == {("measured", "cifar10"), ("reported", "cifar10"), ("reported", "cifar100")}
    assert {line["figure"] for line in lines if line["dataset"] == "cifar100"} == {
        "average", "worst_10pct", "nsd"
    }  # fmt: skip
    assert not any(line["place"] for line in lines)


def test_attacks_and_sort_reach_the_table(command: Any, tmp_path: Path) -> None:
    for seed in range(3):
        saved(tmp_path / "s" / f"m{seed}", seed)
    assert command("s", "--attacks", "pgd,clean", "--sort", "clean.avg")[0] == 0
    (table,) = json.loads(Path("reports/leaderboard/leaderboard.json").read_text("utf-8"))["tables"]
    assert [column["attack"] for column in table["columns"]] == ["pgd", "clean"]
    averages = [row["scores"]["clean"]["average"]["value"] for row in table["rows"]]
    assert averages == sorted(averages, reverse=True)


def test_a_table_for_a_paper(command: Any, tmp_path: Path) -> None:
    for seed in range(2):
        saved(tmp_path / "s" / f"m{seed}", seed)
    words = [
        "--attacks",
        "clean,pgd",
        "--figures",
        "avg,nsd",
        "--no-intervals",
        "--label",
        "tab:r",
        "--siunitx",
    ]
    status, _, err = command("s", *words, "--caption", "At 100 %")
    assert (status, err) == (0, "")
    (table,) = read_tables(Path("reports/leaderboard/leaderboard.tex").read_text("utf-8"))
    assert (table.caption, table.label) == (r"At 100 \%", "tab:r")
    card = {
        row["name"]: row["scores"]
        for row in json.loads(Path("reports/leaderboard/leaderboard.json").read_text("utf-8"))[
            "tables"
        ][0]["rows"]
    }
    for name, cells in table.cells().items():
        ids = {"Clean": "clean", "PGD": "pgd"}
        assert len(cells) == 4
        for (title, figure), (text, _, _, sure) in cells.items():
            assert text == card[name][ids[title]][figure]["printed"]
            assert sure == ""


def test_a_table_larger_than_a_page_is_said_if_it_was_asked_for(
    command: Any, tmp_path: Path
) -> None:
    for seed in range(16):
        saved(tmp_path / "s" / f"a-network-with-a-long-name-{seed}", seed)
    assert command("s")[2] == ""
    status, _, err = command("s", "--transpose")
    assert status == 0
    assert err.startswith("leaderboard.tex: a table is about ")
    assert err.count("\n") == 1


def spoil(folder: Path, **more: Any) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text("utf-8")) | more
    manifest.pop("seal")  # as whoever edits one is told to
    file.write_text(json.dumps(manifest), "utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "there is no folder none"),
        (["empty"], "empty holds no run"),
        (["=s/a"], "lacks a name or a folder"),
        (["n="], "lacks a name or a folder"),
        (["x=s/a", "x=s/b"], "the name 'x' is given to two rows"),
        (["s/a", "s/a/seed-0/full"], "given more than once"),
        (["s", "--sort", "speed"], "--sort speed is no column"),
        (["s", "--attacks", "pdg"], "Did you mean pgd?"),
        (["s", "--attacks", ","], "--attacks names no attack"),
        (["s", "--figures", "wurst"], "no figure is called 'wurst'. Did you mean worst?"),
        (["s", "--figures", ","], "--figures names no figure"),
        (["s", "--label", "a b"], "--label 'a b' would break the table"),
        (["s", "--reported", "paperr"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    command: Any, tmp_path: Path, arguments: list[str], words: str
) -> None:
    study(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_row_takes_only_seeds_of_one_method(command: Any, tmp_path: Path) -> None:
    study(tmp_path / "s", ("a",))
    first = tmp_path / "s" / "a" / "seed-0" / "full"
    record = json.loads((first / "manifest.json").read_text("utf-8"))
    cases: dict[str, dict[str, Any]] = {
        "several kinds: architecture is": {"model": {"architecture": "resnet50"}},
        "with other constants": {
            "attacks": record["attacks"] | {"pgd": record["attacks"]["pgd"] | {"steps": 7}}
        },
        "within the same ε": {"threat": {"norm": "linf", "eps": 0.5, "eps_text": "0.5"}},
        "runs of one checkpoint": {"checkpoint": {"name": "student", "sha256": f"{1:064x}"}},
    }
    for words, more in cases.items():
        spoil(first, **(record | more))
        status, _, err = command("m=s/a")
        assert status == 2
        assert words in err, err
    # Each as a row of its own they are welcome.
    assert command("s/a")[0] == 0


@pytest.mark.parametrize("damage", ["bytes", "no attacks", "labels", "constants"])
def test_a_broken_run_is_named(command: Any, tmp_path: Path, damage: str) -> None:
    study(tmp_path / "s")
    broken = tmp_path / "s" / "b" / "seed-1" / "full"
    if damage == "bytes":
        (broken / "outcomes.parquet").write_bytes(b"PAR1 nothing")
    elif damage == "no attacks":
        spoil(broken, attacks={})
    elif damage == "labels":
        spoil(broken, dataset={"name": "cifar10", "class_names": ["a", "b"]})
    else:
        spoil(broken, attacks=["clean", "pgd"])
    status, _, err = command("s")
    assert status == 2
    assert err.startswith("error: ")
    assert str(broken.relative_to(tmp_path)) in err
    assert err.count("\n") == 1


def test_a_leaderboard_needs_no_torch(tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    done = subprocess.run(
        [
            sys.executable, "-c",
            "from ferd_eval.cli import app, run; import sys\n"
            "assert run(app, ['leaderboard', 'one', '--reported', 'paper'], 'ferd-eval') == 0\n"
            "print('torch' in sys.modules or 'torchvision' in sys.modules)",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["reports/leaderboard/leaderboard.html", "False"]


_ALIKE = {
    "model": {"architecture": "resnet20", "normalization": None},
    "checkpoint": {"name": "n", "sha256": "f" * 64, "key": "student"},
    "packages": {"torch": "2.14.1"},
}


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"architecture": "resnet20", "normalization": {"mean": [0.5], "std": [0.5]}}},
        {"model": {"architecture": "resnet20-maxpool", "normalization": None}},
        {"checkpoint": {"name": "n", "sha256": "f" * 64, "key": "teacher"}},
        {"packages": {"torch": "2.11.0"}},
    ],
    ids=["normalisation", "architecture", "key", "torch"],
)
def test_one_file_read_or_scored_otherwise_keeps_its_row(
    command: Any, tmp_path: Path, other: dict[str, Any]
) -> None:
    from tests.eval.metrics.simulated_run import simulate

    for name, facts in (("a", _ALIKE), ("b", {**_ALIKE, **other}), ("c", _ALIKE)):
        simulate(per_class=12, seed=1, **facts).save(tmp_path / "runs" / name)
    status, _, err = command("runs")
    assert status == 0, err
    assert len(rows()) == 2
    assert err.count("left out") == 1
    assert "c is of the same network as" in err
