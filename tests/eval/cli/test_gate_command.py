"""``ferd-eval gate``: its status, its one line, and what it refuses to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.eval.metrics.simulated_run import constants, rows, simulate
from tests.eval.metrics.simulated_run import run as made_run

NAMES = ("cat", "dog", "=HYPERLINK(1)")
#: Images of 200 that stand, by class, without an attack and under it.
CLEAN, ATTACKED = (190, 180, 195), (60, 90, 150)


def attacked_run(names=NAMES, clean=CLEAN, attacked=ATTACKED, n=200, **more):
    """A run in which the first so many images of each class stand."""
    labels = np.repeat(np.arange(len(names)), n)
    place = np.tile(np.arange(n), len(names))
    other = (labels + 1) % len(names)
    clean_N = np.where(place < np.repeat(clean, n), labels, other)
    attacked_N = np.where(place < np.repeat(attacked, n), labels, other)
    tables = [rows("clean", labels, clean_N), rows("aa", labels, attacked_N, clean_N)]
    return made_run(tables, names, **{"packages": {}, **more})


@pytest.fixture
def gate(run_command, tmp_path, monkeypatch):
    """Run the command in an empty folder; its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    return partial(run_command, "gate")


@pytest.fixture
def saved(tmp_path) -> Path:
    attacked_run().save(tmp_path / "run")
    return tmp_path / "run"


def exact(correct: int, n: int, side: str, confidence: float) -> float:
    return getattr(stats.binomtest(correct, n).proportion_ci(2 * confidence - 1, "exact"), side)


LEAST = exact(60, 200, "low", 0.95)  # 24.6 %
MOST = exact(130, 200, "high", 0.975)  # 71.6 %


def test_the_floor_decides_and_the_line_says_why(gate, saved):
    for asked, status in ((LEAST - 1e-4, 0), (LEAST + 1e-4, 1)):
        got, out, err = gate("run", "--floor", repr(asked))
        assert (got, err, out.count("\n")) == (status, "", 1)
    got, out, _ = gate("run", "--floor", "20%")
    assert (got, out) == (
        0,
        f"pass: under aa every class is right at least {100 * LEAST:.1f} % of the time with 95 % "
        "confidence; the floor asked for is 20.0 %.\n",
    )
    got, out, _ = gate("run", "--floor", "0.28")
    assert got == 1
    assert out.startswith(f"fail: under aa every class is right at least {100 * LEAST:.1f} % ")
    assert "lowest is cat at 30.0 % of 200 images (95 % interval 24.1 to 36.7)" in out
    assert "more images may show it" in out
    assert "more images" not in gate("run", "--floor", "0.31")[1]


def test_figures_that_print_alike_get_more_digits(gate, saved):
    _, out, _ = gate("run", "--floor", repr(LEAST + 1e-5))
    assert f"{100 * LEAST:.3f} %" in out
    assert f"{100 * (LEAST + 1e-5):.3f} %" in out


def test_the_largest_drop_decides(gate, saved):
    for asked, status in ((MOST + 1e-4, 0), (MOST - 1e-4, 1)):
        got, out, err = gate("run", "--max-drop", repr(asked))
        assert (got, err, out.count("\n")) == (status, "", 1)
    assert f"{100 * MOST:.1f} points" in gate("run", "--max-drop", "80%")[1]
    _, out, _ = gate("run", "--max-drop", "0.7")
    assert "the limit is that of cat, which loses 65.0 on 200 images" in out


def test_both_must_be_shown(gate, saved):
    assert gate("run", "--floor", "0.2", "--max-drop", "0.8")[0] == 0
    status, out, _ = gate("run", "--floor", "0.2", "--max-drop", "0.5")
    assert status == 1
    assert out.index("loses more than") < out.index("every class"), "what fails comes first"
    assert gate("run", "--floor", "0.5", "--max-drop", "0.8")[0] == 1


def test_json_holds_what_the_line_says(gate, saved):
    status, out, _ = gate("run", "--floor", "0.28", "--max-drop", "0.8", "--json")
    verdict = json.loads(out)
    assert status == 1
    assert verdict["pass"] is False
    assert verdict["attack"] == "aa"
    assert verdict["reason"] + "\n" == gate("run", "--floor", "0.28", "--max-drop", "0.8")[1]
    assert verdict["floor"]["shown"] == pytest.approx(LEAST)
    assert verdict["floor"]["decided_by"] == "cat"
    assert verdict["max_drop"]["shown"] == pytest.approx(MOST)
    assert (verdict["floor"]["passed"], verdict["max_drop"]["passed"]) == (False, True)


def test_the_strongest_attack_is_judged_unless_told_otherwise(gate, saved):
    simulate(per_class=100).save(saved)
    assert " under aa " in gate("run", "--floor", "0.01")[1]
    assert " under pgd " in gate("run", "--floor", "0.01", "--attack", "pgd")[1]
    assert " without an attack " in gate("run", "--floor", "0.01", "--attack", "clean")[1]


def test_a_class_without_images_is_not_shown_to_be_robust(gate, saved):
    simulate(per_class=100, empty=[3, 5]).save(saved)
    status, out, _ = gate("run", "--floor", "0.01")
    assert status == 1
    assert "2 classes (cat and dog) without images" in out


def test_an_audit_is_allowed_for(gate, saved):
    labels = np.repeat([0, 1], 50)
    clean, audited = rows("clean", labels, labels), rows("aa-audited", labels, labels)
    made_run([clean, audited], "ab", audits={"aa-audited": list(range(50))}).save(saved)
    status, out, _ = gate("run", "--floor", "0.2")
    assert (status, "at least 0.0 %" in out) == (1, True)
    assert gate("run", "--max-drop", "0.9")[0] == 1
    made_run([clean, audited], "ab", audits={"aa-audited": list(range(100))}).save(saved)
    assert gate("run", "--floor", "0.2", "--max-drop", "0.9")[0] == 0


def test_doubts_about_the_attack_are_mentioned(gate, saved):
    labels = np.repeat([0, 1], 100)
    wrong = 1 - labels
    tables = [
        rows("clean", labels, labels),
        rows("fgsm", labels, np.where(np.arange(200) % 2, labels, wrong), labels),
        rows("pgd", labels, labels, labels),
    ]
    made_run(tables, "ab").save(saved)
    status, out, _ = gate("run", "--floor", "0.2")
    assert (status, "1 warning on these figures" in out) == (0, True)


def test_names_keep_to_the_line(gate, saved):
    attacked_run(("cat\nerror: no\x1b[31m", "dog", "=1+1")).save(saved)
    status, out, _ = gate("run", "--floor", "0.28")
    assert (status, out.count("\n")) == (1, 1)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ("RUN",)),
        (["run"], ("nothing is asked", "--floor 0.20", "--max-drop")),
        (["run", "--floor", "0"], ("--floor", "'0'", "between 0 and 1")),
        (["run", "--floor", "1"], ("between 0 and 1",)),
        (["run", "--floor", "-0.1"], ("between 0 and 1",)),
        (["run", "--floor", "nan"], ("'nan'",)),
        (["run", "--floor", "x"], ("'x'",)),
        (["run", "--floor", "20%%"], ("20%%",)),
        (["run", "--floor", "20"], ("Did you mean 20%?",)),
        (["run", "--max-drop", "30"], ("--max-drop", "Did you mean 30%?")),
        (["run", "--floor", "0.2", "--attack", "pdg"], ("'pdg'", "There are: clean, aa")),
        (["run", "--max-drop", "0.2", "--attack", "clean"], ("--max-drop", "clean, aa")),
        (["nowhere", "--floor", "0.2"], ("there is no folder nowhere",)),
        (["run", "--flor", "0.2"], ("--flor",)),
    ],
)
def test_bad_commands_are_one_line_and_status_2(gate, saved, words, parts):
    status, out, err = gate(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert all(part in err for part in parts), err


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"status": "running"}, ("not finished", "running")),
        ({"status": None}, ("not finished",)),
        ({"dataset": {}}, ("is damaged", "class_names")),
        ({"attacks": {}}, ("holds no attack",)),
        ({"attacks": {"clean": constants("clean")}}, ("holds no attack, only clean",)),
        ({"attacks": {"pgd": constants("pgd")}}, ("no",)),
        ({"dataset": {"class_names": ["cat"]}}, ("classes",)),
    ],
)
def test_bad_runs_are_status_2_never_1(gate, saved, change, parts):
    file = saved / "manifest.json"
    manifest = {**json.loads(file.read_text()), **change}
    manifest.pop("seal")  # as whoever edits one is told to
    file.write_text(json.dumps(manifest))
    status, out, err = gate("run", "--floor", "0.2")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert all(part in err for part in parts), err


def test_a_run_without_clean_images_knows_no_drop(gate, saved):
    labels = np.repeat([0, 1], 20)
    made_run([rows("aa", labels, labels, -1)], "ab").save(saved)
    assert gate("run", "--floor", "0.2")[0] == 0
    status, _, err = gate("run", "--max-drop", "0.2")
    assert (status, err.count("\n")) == (2, 1)
    assert "--max-drop" in err


@pytest.mark.parametrize(("floor", "status"), [("0.2", 0), ("0.5", 1), ("2", 2)])
def test_the_shell_sees_the_status_without_torch_and_without_a_reader(saved, floor, status):
    code = (
        "from ferd_eval.cli import run, app; import sys\n"
        f"status = run(app, ['gate', {str(saved)!r}, '--floor', {floor!r}], 'ferd-eval')\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(status)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == status


def test_a_run_of_another_torch_is_told(gate, tmp_path):
    import torch

    attacked_run(packages={"torch": "2.0.0"}).save(tmp_path / "old")
    attacked_run(packages={"torch": torch.__version__.partition("+")[0]}).save(tmp_path / "new")
    for question in (("--floor", "0.2"), ("--max-drop", "0.8")):
        _, out, _ = gate("old", *question)
        assert "Scored with torch 2.0.0 (here " in out
        _, out, _ = gate("new", *question)
        assert "Scored with torch" not in out
    _, out, _ = gate("old", "--floor", "0.2", "--json")
    assert json.loads(out)["scored_with"]["torch"] == "2.0.0"
