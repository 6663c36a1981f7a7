"""Every benchmark runs, on inputs so small that its figures mean nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from ferd_eval.models.demo import demo_checkpoints

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"

#: Script → its arguments, and a word of what it prints.
TINY = {
    "attack_memory": ("--side 8 --images 1 --only pgd", "pgd"),
    "autoattack": ("CKPT --limit 3 --batch 3 --eps 0.9", "% of the whole call"),
    "batch_sizes": ("CKPT --limit 4 --sizes 2,4 --eps 0.9", "flips"),
    "coverage": ("--repetitions 1 --only runs,pairs", "| runs |"),
    "pgd": ("--arch resnet8 --side 8 --images 2 --batch 2 --pairs 1 --threads 1", "ratio"),
    "report": ("--classes 3 --images 30", "processor time"),
    "trainer": (
        "--threads 1 --clock cpu --arch resnet8-w8 --batch 4 --steps 1 1 --epochs 1",
        "generator step",
    ),
}

#: Too long even when tiny: they are only imported. Tests of kills, of mutated files and of Ray run
#: the code that they time.
ELSEWHERE = {"endurance", "fuzz", "scaling"}


def test_every_script_is_listed():
    assert {file.stem for file in FOLDER.glob("*.py")} - {"__init__"} == {*TINY} | ELSEWHERE
    for name in ELSEWHERE:
        importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name, monkeypatch, capsys):
    words, printed = TINY[name]
    module = importlib.import_module(f"benchmarks.{name}")
    with demo_checkpoints() as files:
        arguments = [str(files[0]) if word == "CKPT" else word for word in words.split()]
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            status = module.app() if hasattr(module, "app") else module.main()
        except SystemExit as end:
            status = end.code
    assert status in (None, 0, 1)  # 1: a claim that so few repetitions cannot show
    assert printed in capsys.readouterr().out
