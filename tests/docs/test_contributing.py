"""Each recipe of docs/contributing works: its file, its line in the registry, its example."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

import ferd_eval
from tests.conftest import ROOT, TinyNet, tiny_data
from tests.docs.documents import code_block
from tests.train.student_runs import tiny, train

RECIPES = ROOT / "docs" / "contributing"
REGISTERED = [file.stem for file in RECIPES.glob("*.md") if "```diff" in file.read_text("utf-8")]


def block(recipe: str, language: str, holding: str = "") -> str:
    return code_block(RECIPES / f"{recipe}.md", language, holding)


def written(recipe: str, monkeypatch) -> ModuleType:
    """The module that a recipe has its reader write, importable from beside its registry."""
    (name,) = re.findall(r'^"""(\w+)\.py', block(recipe, "python", '"""'))
    module = ModuleType(f"{registry(recipe).__package__}.{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block(recipe, "python", '"""'), recipe, "exec"), vars(module))
    return module


def registry(recipe: str) -> ModuleType:
    """The module that a recipe has its reader add a line to: the last one before the line."""
    text = (RECIPES / f"{recipe}.md").read_text("utf-8").partition("```diff")[0]
    path = re.findall(r"`(ferd_\w+/[\w/]+)\.py`", text)[-1]
    return importlib.import_module(path.replace("/", ".").removesuffix(".__init__"))


def added(recipe: str, new: ModuleType) -> Any:
    """The entry that the line adds to a registry, with its key where it has one."""
    (line,) = re.findall(r"^\+ *(.*?),?$", block(recipe, "diff"), re.MULTILINE)
    names = {**vars(registry(recipe)), **vars(new)}
    key = re.match(r'"([\w-]+)": ', line)
    return (key[1], eval(line[key.end() :], names)) if key else eval(line, names)


def try_it(recipe: str, holding: str, **names: Any) -> None:
    exec(compile(block(recipe, "python", holding), recipe, "exec"), names)


@pytest.mark.parametrize("recipe", REGISTERED)
def test_the_registry_is_as_the_recipe_shows_it(recipe):
    source = importlib.util.find_spec(registry(recipe).__name__).loader.get_source(None)
    shown = [line[1:] for line in block(recipe, "diff").splitlines() if line.startswith(" ")]
    assert shown
    assert [line for line in shown if line not in source.splitlines()] == []


def test_attack(monkeypatch):
    key, preset = added("attack", written("attack", monkeypatch))
    monkeypatch.setitem(registry("attack").PRESETS, key, preset)
    outcomes = ferd_eval.score(TinyNet().eval(), tiny_data(), f"clean,fgsm,{key}", "0.1")
    right = outcomes.table.groupby("attack")["correct"].mean()
    assert right[key] <= right["fgsm"] < right["clean"]


def test_architecture(monkeypatch):
    family = added("architecture", written("architecture", monkeypatch))
    module = registry("architecture")
    monkeypatch.setattr(module, "FAMILIES", (*module.FAMILIES, family))
    try_it("architecture", "lenet =")
    lenet = module.build_architecture("lenet-5", num_classes=7, in_channels=3).build()
    assert lenet(torch.rand(2, 3, 28, 28)).shape == (2, 7)


def test_dataset(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dataset = added("dataset", written("dataset", monkeypatch))
    monkeypatch.setitem(registry("dataset").DATASETS, dataset.name, dataset)
    try_it("dataset", "load_dataset(")
    (tmp_path / "semeion.data").write_bytes(b"0 1 1")
    with pytest.raises(ferd_eval.UserError, match="3 values"):
        ferd_eval.load_dataset("semeion", tmp_path)


def test_metric(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = written("metric", monkeypatch)
    figure = added("metric", module)
    monkeypatch.setitem(registry("metric").FIGURES, figure.key, figure)
    run = tmp_path / "reports/runs/demo/resnet8"
    outcomes = ferd_eval.score(TinyNet().eval(), tiny_data(), "pgd", "0.01", steps=2, out=run)
    try_it("metric", "Outcomes.load(")
    ferd_eval.write_report(outcomes, run)
    assert f",{figure.key}," in (run / "report.csv").read_text()
    assert module.harmonic_mean([0.5, float("nan"), 1.0]) == pytest.approx(2 / 3)
    assert module.harmonic_mean([0.0, 1.0]) == 0
    assert str(module.harmonic_mean([float("nan")])) == "nan"


def test_synthesis_method(monkeypatch, teacher_file, tmp_path):
    key, recipe = added("synthesis-method", written("synthesis-method", monkeypatch))
    monkeypatch.setitem(registry("synthesis-method").METHODS, key, recipe)
    train(tiny(synthesis__method=key, synthesis__steps=9), teacher_file, tmp_path / "run")
    (record,) = (tmp_path / "run").glob("recipe.toml")
    assert f'method = "{key}"' in record.read_text()
