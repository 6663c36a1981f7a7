"""Study files of tiny recipes, and finished cells that nobody had to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ferd_eval.io.json import to_json
from ferd_eval.results.outcomes import Outcomes
from ferd_train.config.recipe import to_toml
from ferd_train.study.status import TrialState
from tests.eval.metrics.simulated_run import simulate
from tests.train.student_runs import tiny, write_teacher
from tests.train.test_student_cli import data_file

NAMES = ("<b>rows", "=columns", "a|b")

HEAD = """
title = "Tiny"
dataset = "npz:images-3-8.npz"
seeds = [0, 1]
[teachers]
small = "teacher.safetensors"
"""
METHODS = """
[methods.ferd]
recipe = "tiny.toml"
[methods.rslad]
recipe = "tiny.toml"
set = { "loss.name" = "rslad", loss.attack_steps = 2 }
"""
EVALUATIONS = """
[evaluations.full]
attacks = "fgsm"
[evaluations.few]
attacks = "pgd"
per_class = 4
"""


def lay_out(folder: Path) -> Path:
    """A teacher, its data and a recipe."""
    folder.mkdir(exist_ok=True)
    trained = {"ferd.recipe": '{"image_size": 8, "eps": "0.1"}'}
    write_teacher(folder / "teacher.safetensors", metadata=trained)
    data_file(folder, per_class=10)
    (folder / "tiny.toml").write_text(to_toml(tiny()))
    return folder


def study_file(folder: Path, text: str = HEAD + METHODS + EVALUATIONS, name: str = "s") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


def outcomes_of(seed: int, attacks: tuple[str, ...], per_class: int = 30) -> Outcomes:
    return simulate(NAMES, per_class=per_class, attacks=attacks, seed=seed)


def pretend_trained(state: TrialState, number: int, epochs: list[tuple[float, float]]) -> str:
    """The record of a finished student, and the seconds of its epochs."""
    digest = f"{number:064x}"
    state.run.mkdir(parents=True)
    record = {"status": "finished", "recipe": {}, "result": {"sha256": digest}}
    (state.run / "manifest.json").write_text(to_json(record))
    lines = [json.dumps({"seconds_making": m, "seconds_learning": s}) for m, s in epochs]
    (state.run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return digest


def pretend_scored(folder: Path, run: Outcomes, digest: str, recipe: dict[str, Any]) -> None:
    """The outcomes of that student."""
    checkpoint = {"name": "student", "sha256": digest, "recipe": recipe}
    if not recipe:
        checkpoint = {"name": "teacher", "sha256": digest}
    Outcomes(run.table, {**run.manifest, "checkpoint": checkpoint}).save(folder)


def accuracies(run: Outcomes, attack: str) -> np.ndarray[Any, Any]:
    """Of each class, read off the table alone."""
    table = run.table[run.table["attack"] == attack]
    return (table["adv_pred"] == table["label"]).groupby(table["label"]).mean().to_numpy()
