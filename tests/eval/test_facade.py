"""`import ferd_eval`: paths as text or `Path`, each function's result given to the next, and
arguments of wrong types, which must end in one line that says what to give.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ferd_eval
from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.report import Run
from tests.conftest import TinyNet, tiny_data


@pytest.fixture(scope="module")
def outcomes() -> ferd_eval.Outcomes:
    return ferd_eval.score(TinyNet(), tiny_data(), "clean,fgsm")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("nets") / "net.safetensors"
    with demo_checkpoints() as files:
        file.write_bytes(files[0].read_bytes())
    return file


@pytest.mark.parametrize("kind", [str, Path])
def test_a_checkpoint_goes_from_its_path_to_a_report(kind, checkpoint, tmp_path):
    loaded = ferd_eval.load_checkpoint(kind(checkpoint))
    built = ferd_eval.build_classifier(loaded)
    data = ferd_eval.load_dataset("demo", kind(tmp_path)).first(40)
    outcomes = ferd_eval.score(built, data, "clean,fgsm", out=kind(tmp_path / "run"))
    assert outcomes.manifest["model"]["architecture"] == built[1].architecture
    again = ferd_eval.Outcomes.load(kind(tmp_path / "run"))
    again.save(kind(tmp_path / "copy"))
    files = ferd_eval.write_report(again, kind(tmp_path / "report"))
    assert {file.name for file in files} >= {"report.html", "scorecard.json"}
    assert files == ferd_eval.write_report(kind(tmp_path / "report"), again)
    alone = ferd_eval.score(built[0], data, "clean,fgsm")
    assert outcomes.table.equals(alone.table)


def test_a_classifier_is_built_from_a_path_as_from_what_is_loaded(checkpoint):
    loaded = ferd_eval.build_classifier(ferd_eval.load_checkpoint(checkpoint))[1]
    assert ferd_eval.build_classifier(checkpoint)[1] == loaded
    assert ferd_eval.build_classifier(str(checkpoint))[1] == loaded


def test_a_report_takes_runs_in_every_form(outcomes, tmp_path):
    run = Run("mine", ferd_eval.scorecard(outcomes), outcomes.manifest)
    for number, results in enumerate(
        (outcomes, [outcomes], run, [run, outcomes], {"a": outcomes, "b": outcomes})
    ):
        folder = tmp_path / str(number)
        assert (folder / "report.html") in ferd_eval.write_report(results, folder)
    assert '"a"' in (tmp_path / "4" / "scorecards.json").read_text("utf-8")


def test_a_device_may_be_torchs(outcomes):
    again = ferd_eval.score(TinyNet(), tiny_data(), "clean,fgsm", device=torch.device("cpu"))
    assert again.table.equals(outcomes.table)


def _images(**changes):
    fields = {
        "name": "mine",
        "images_NCHW": np.zeros((2, 1, 8, 8), np.uint8),
        "labels_N": np.array([0, 1]),
        "class_names": ("a", "b"),
        "indices_N": np.arange(2),
        "source": "memory",
    }
    return ferd_eval.LabelledImages(**{**fields, **changes})


WRONG = {
    "a report of a scorecard": lambda it: ferd_eval.write_report(ferd_eval.scorecard(it), "x"),
    "a report of a path": lambda it: ferd_eval.write_report("run", "x"),
    "a report of nothing": lambda it: ferd_eval.write_report([], "x"),
    "a report into no folder": lambda it: ferd_eval.write_report(it, 3),
    "a report of twins": lambda it: ferd_eval.write_report([it, it], "x"),
    "a scorecard of a path": lambda it: ferd_eval.scorecard("run"),
    "a scorecard of a table": lambda it: ferd_eval.scorecard(it.table),
    "a scorecard with a named group": lambda it: ferd_eval.scorecard(it, "superclass"),
    "outcomes of a path": lambda it: ferd_eval.Outcomes("run", {}),
    "outcomes without a manifest": lambda it: ferd_eval.Outcomes(it.table, "run"),
    "a checkpoint of a network": lambda it: ferd_eval.load_checkpoint(TinyNet()),
    "a checkpoint of nothing": lambda it: ferd_eval.load_checkpoint(None),
    "a classifier of a network": lambda it: ferd_eval.build_classifier(TinyNet()),
    "a classifier of weights": lambda it: ferd_eval.build_classifier(TinyNet().state_dict()),
    "a classifier around a text": lambda it: ferd_eval.Classifier("net", num_classes=4),
    "a data set of images": lambda it: ferd_eval.load_dataset(tiny_data()),
    "a data set of a path": lambda it: ferd_eval.load_dataset(Path("images")),
    "a data set in a number": lambda it: ferd_eval.load_dataset("cifar10", 3),
    "images as a list": lambda it: _images(images_NCHW=[[0]]),
    "images in float64": lambda it: _images(images_NCHW=np.zeros((2, 1, 8, 8))),
    "images without channels": lambda it: _images(images_NCHW=np.zeros((2, 8, 8), np.uint8)),
    "labels as a tensor": lambda it: _images(labels_N=torch.tensor([0, 1])),
    "fewer indices": lambda it: _images(indices_N=np.arange(1)),
    "another norm": lambda it: ferd_eval.Threat("8/255", "l2"),
    "no eps": lambda it: ferd_eval.Threat(None),
    "scoring a checkpoint": lambda it: ferd_eval.score("net.pt", tiny_data()),
    "scoring weights": lambda it: ferd_eval.score(TinyNet().state_dict(), tiny_data()),
    "scoring on a table": lambda it: ferd_eval.score(TinyNet(), pd.DataFrame()),
    "scoring on a path": lambda it: ferd_eval.score(TinyNet(), Path("images")),
    "an attack by number": lambda it: ferd_eval.score(TinyNet(), tiny_data(), 3),
    "attacks by number": lambda it: ferd_eval.score(TinyNet(), tiny_data(), [3]),
    "no ball": lambda it: ferd_eval.score(TinyNet(), tiny_data(), "fgsm", []),
    "a batch by name": lambda it: ferd_eval.score(TinyNet(), tiny_data(), batch_size="auto"),
    "a device by number": lambda it: ferd_eval.score(TinyNet(), tiny_data(), device=[0]),
    "a seed by name": lambda it: ferd_eval.score(TinyNet(), tiny_data(), seed="zero"),
    "a folder by number": lambda it: ferd_eval.score(TinyNet(), tiny_data(), "fgsm", out=3),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_said_in_a_line(call, outcomes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ferd_eval.UserError) as caught:
        call(outcomes)
    assert any(
        word in str(caught.value).lower() for word in ("give", "write", "leave", "there are")
    )
    assert not [*tmp_path.iterdir()]
