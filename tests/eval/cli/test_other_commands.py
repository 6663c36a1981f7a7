"""``inspect``, ``ls``, ``report``, ``demo``, ``--help``: what they print and what they import."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ferd_eval
from ferd_eval.attacks import PRESETS
from ferd_eval.cli import app
from ferd_eval.models import build_architecture
from ferd_eval.runtime.command_line import run
from tests.conftest import TinyNet, tiny_data

HEAVY = ("torch", "torchvision", "pandas", "pyarrow", "scipy", "numpy", "jinja2")


@pytest.fixture
def command(run_command, tmp_path, monkeypatch):
    """Run a command in an empty folder; its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERD_DATA", raising=False)
    return run_command


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two finished runs in a folder, with a table over both."""
    folder = tmp_path_factory.mktemp("runs")
    data = tiny_data(60)
    np.savez(folder / "images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    (folder / "nets.py").write_text("from tests.conftest import TinyNet\n")
    for seed, name in enumerate(("first", "second")):
        torch.save(TinyNet(seed=seed).state_dict(), folder / f"{name}.pt")
    before = Path.cwd()
    os.chdir(folder)
    try:
        status = run(
            app,
            ["score", "first.pt", "second.pt", "--model-file", "nets.py:TinyNet", "--dataset",
             "npz:images.npz", "--attacks", "fgsm,targeted", "--steps", "2", "--out", "out"],
            "ferd-eval",
        )  # fmt: skip
    finally:
        os.chdir(before)
    assert status == 0
    return folder / "out"


# What is imported


@pytest.mark.parametrize(
    "code",
    [
        "import ferd_eval",
        "import ferd_eval; dir(ferd_eval); ferd_eval.__version__",
        "from ferd_eval.cli import app, run; run(app, ['--help'], 'ferd-eval')",
        "from ferd_eval.cli import app, run; run(app, ['score', '--help'], 'ferd-eval')",
        "from ferd_eval.cli import app, run; run(app, ['--version'], 'ferd-eval')",
        "from ferd_eval.cli import app, run; run(app, ['score', 'a.pt', '--limit', '0'], 'f')",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path, code):
    done = python(
        f"{code}\nimport sys; print('\\nloaded', [m for m in {HEAVY} if m in sys.modules])",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_reports_are_rendered_again_without_torch(runs, tmp_path):
    done = python(
        "from ferd_eval.cli import app, run; import sys\n"
        f"assert run(app, ['report', {str(runs)!r}], 'ferd-eval') == 0\n"
        "print('torch' in sys.modules or 'torchvision' in sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [f"{runs}/report.html", "False"]


# help


def test_help_names_every_command_and_option(command):
    status, out, err = command("--help")
    assert (status, err) == (0, "")
    for name in ("score", "demo", "report", "import", "gate", "leaderboard", "inspect", "ls"):
        assert re.search(rf"^\W*{name}\s", out, re.MULTILINE)
    status, out, _ = command("score", "-h")
    assert status == 0
    for flag in ("--dataset", "--data-dir", "--download", "--arch", "--model-file", "--normalize",
                 "--attacks", "--eps", "--steps", "--step-size", "--limit", "--per-class",
                 "--batch-size", "--device", "--seed", "--out", "--json", "--config", "--groups",
                 "--save-adv", "--attack-file", "--engine"):  # fmt: skip
        assert flag in out


def test_version(command):
    assert command("--version") == (0, f"ferd-eval {ferd_eval.__version__}\n", "")


def test_no_command_shows_the_help(command):
    status, out, err = command()
    assert status == 2
    assert "Usage" in out + err
    assert "error" not in err.lower()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["scor"], ("scor", "Did you mean 'score'?")),
        (["score"], ("CKPT", "--help")),
        (["score", "a.pt"], ("--dataset is missing", "There are: cifar10,")),
        (["ls"], ("models|attacks|datasets",)),
        (["ls", "atacks"], ("'atacks'", "Did you mean attacks?")),
        (["inspect"], ("CKPT",)),
        (["inspect", "no.pt"], ("no.pt", "does not exist")),
        (["report"], ("DIR",)),
        (["report", "nowhere"], ("nowhere", "no folder", "--out")),
        (["report", "."], ("no run", "outcomes.parquet is missing")),
        (["demo", "--out", "file/below"], ("file/below", "--out")),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(command, words, parts):
    Path("file").write_text("")
    status, out, err = command(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert all(part in err for part in parts), err


# ls


@pytest.mark.parametrize("what", ["models", "attacks", "datasets"])
def test_listings_hold_what_there_is(command, what):
    status, out, _ = command("ls", what, "--json")
    assert status == 0
    rows = json.loads(out)
    names = {row["name"] for row in rows}
    expected = {
        "models": {"resnet18", "resnet50", "mobilenetv2", "preactresnet18"},
        "attacks": {*PRESETS, "fast"},
        "datasets": {"cifar10", "cifar100", "tiny-imagenet", "fashion-mnist", "mnist", "demo"},
    }[what]
    lower = {name.lower().replace("-", "") for name in names}
    assert {name.lower().replace("-", "") for name in expected} <= lower
    status, table, _ = command("ls", what)
    assert status == 0
    # Off a terminal: one line a row, nothing cut.
    lines = table.splitlines()
    assert len(lines) == 1 + len(rows)
    for line, row in zip(lines[1:], rows, strict=True):
        assert re.split(r"\s{2,}", line) == [value for value in row.values() if value]


@pytest.mark.parametrize("what", ["models", "attacks", "datasets"])
def test_listings_on_a_terminal_fold_and_cut_nothing(command, monkeypatch, what):
    _, out, _ = command("ls", what, "--json")
    rows = json.loads(out)
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take a pipe for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    status, table, _ = command("ls", what)
    assert status == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", table).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 1 + len(rows)
    names = [line.split("  ")[0] for line in lines[1:] if not line.startswith(" ")]
    assert names == [row["name"] for row in rows]
    # Every other word is there too: the letters of a column, whatever line they stand on.
    letters = sorted("".join(lines[1:]).replace(" ", ""))
    assert letters == sorted("".join("".join(row.values()) for row in rows).replace(" ", ""))


# inspect


def test_inspect_says_what_a_file_is(command):
    state = build_architecture("resnet18", num_classes=100).build().state_dict()
    torch.save(
        {"epoch": 3, "model_state_dict": {f"module.{k}": v for k, v in state.items()},
         "optimizer": {"lr": 0.1}, "nature_acc": 0.5},
        "release.pt",
    )  # fmt: skip
    status, out, err = command("inspect", "release.pt", "--json")
    assert (status, err) == (0, "")
    facts = json.loads(out)
    assert facts["architecture"] == "resnet18"
    assert facts["num_classes"] == 100
    assert facts["in_channels"] == 3
    assert facts["parameters"] == 11_220_132
    assert facts["bytes"] == Path("release.pt").stat().st_size
    assert len(facts["sha256"]) == 64
    assert "detected" in facts["decided_by"]
    assert any("optimizer" in entry for entry in facts["ignored"])
    assert "model_state_dict" in facts["unwrapped"]
    status, out, _ = command("inspect", "release.pt")
    assert status == 0
    for part in ("resnet18", "11,220,132", "detected", "optimizer"):
        assert part in out


def test_inspect_folds_the_keys_that_play_no_part(command):
    state = build_architecture("wideresnet-10-1", num_classes=10).build().state_dict()
    unused = {
        key.replace("block1", "sub_block1"): tensor
        for key, tensor in state.items()
        if key.startswith("block1.")
    }
    torch.save({**state, **unused}, "wide.pt")
    status, out, _ = command("inspect", "wide.pt", "--json")
    assert status == 0
    assert sorted(json.loads(out)["unused_keys"]) == sorted(unused)
    status, out, _ = command("inspect", "wide.pt")
    assert status == 0
    assert f"sub_block1.* ({len(unused)} keys)" in out
    assert out.count("sub_block1") == 1


# report


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_reports_rendered_again_are_the_same_bytes(command, runs):
    before = everything(runs)
    for folder in (runs / "first", runs):
        status, out, err = command("report", str(folder))
        assert (status, err) == (0, "")
        assert out.splitlines()[-1] == str(folder / "report.html")
        assert everything(runs) == before


def test_an_audit_appendix_lies_beside_each_report(command, runs, tmp_path):
    shutil.copytree(runs, tmp_path / "out")
    before = {file.name for file in (tmp_path / "out").iterdir()}
    assert command("report", "out", "--audit")[0] == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == before
    for name in ("first", "second"):
        made = json.loads((tmp_path / "out" / name / "audit.json").read_text("utf-8"))
        manifest = json.loads((tmp_path / "out" / name / "manifest.json").read_text("utf-8"))
        assert made["identity"]["checkpoint.sha256"] == manifest["checkpoint"]["sha256"]
        assert made["attacks"] == manifest["attacks"]
        for text in ("audit.md", "audit.html"):
            said = (tmp_path / "out" / name / text).read_text("utf-8")
            assert manifest["dataset"]["fingerprint"] in said
            assert manifest["packages"]["torch"] in said


def test_reports_are_made_from_the_outcomes_alone(command, runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "bare")
    for file in (tmp_path / "bare").iterdir():
        if file.name not in ("outcomes.parquet", "manifest.json"):
            file.unlink()
    status, out, _ = command("report", "bare", "--json")
    assert status == 0
    assert json.loads(out) == json.loads((runs / "first" / "scorecard.json").read_text())
    assert everything(tmp_path / "bare") == everything(runs / "first")


def test_groups_can_be_asked_for_later(command, runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "run")
    Path("pairs.csv").write_text("class,group\n0,a\n1,a\n2,b\n3,b\n")
    status, out, _ = command("report", "run", "--groups", "pairs.csv", "--json")
    assert status == 0
    rows = json.loads(out)["groups"]["pairs"]["fgsm"]["per_class"]
    table = pd.read_parquet("run/outcomes.parquet")
    table = table[table["attack"] == "fgsm"]
    for row, labels in zip(rows, ((0, 1), (2, 3)), strict=True):
        right = table[table["label"].isin(labels)]["correct"]
        assert row["accuracy"] == pytest.approx(right.mean())
    status, _, err = command("report", "run", "--groups", "superclass")
    assert (status, err.count("\n")) == (2, 1)


def test_runs_of_one_checkpoint_are_told_apart(command, runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs / "first", tmp_path / "both" / name)
    status, out, _ = command("report", "both", "--json")
    assert status == 0
    assert set(json.loads(out)["runs"]) == {"a", "b"}
    assert json.loads(Path("both/scorecards.json").read_text()) == json.loads(out)


def test_a_folder_of_runs_holds_the_figures_of_all_or_of_one(command, runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "both" / "first")
    assert command("report", "both")[0] == 0
    assert (
        Path("both/scorecard.json").read_bytes() == Path("both/first/scorecard.json").read_bytes()
    )
    shutil.copytree(runs / "second", tmp_path / "both" / "second")
    assert command("report", "both")[0] == 0
    assert {file.name for file in Path("both").glob("*.json")} == {"scorecards.json"}
    shutil.rmtree(tmp_path / "both" / "second")
    assert command("report", "both")[0] == 0
    assert {file.name for file in Path("both").glob("*.json")} == {"scorecard.json"}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", b""),
        ("manifest.json", b"{}"),
        ("manifest.json", b"[]"),
        ("manifest.json", b"\xff"),
        ("manifest.json", None),
        ("outcomes.parquet", b""),
        ("outcomes.parquet", b"PAR1PAR1"),
        ("outcomes.parquet", None),
    ],
)
def test_damaged_runs_are_refused_in_one_line(command, runs, tmp_path, file, content):
    shutil.copytree(runs / "first", tmp_path / "run")
    if content is None:
        Path("run", file).unlink()
    else:
        Path("run", file).write_bytes(content)
    before = everything(tmp_path / "run")
    status, out, err = command("report", "run")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "run" in err
    assert everything(tmp_path / "run") == before


def test_an_unfinished_run_says_how_to_finish_it(command, runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "run")
    Path("run/outcomes.parquet").unlink()
    status, _, err = command("report", "run")
    assert status == 2
    assert "unfinished run" in err
    assert "repeating its score command" in err


def test_a_reader_that_stops_early_gets_no_traceback(runs):
    """As in ``ferd-eval report DIR | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from ferd_eval.cli import main; main()", "report", str(runs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.wait()
