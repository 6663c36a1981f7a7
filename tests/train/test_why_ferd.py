"""The script behind docs/why-ferd-falls-short.md says what a run's own log and bank say."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from ferd_eval.datasets import LabelledImages
from tests.conftest import ROOT
from tests.train.student_runs import bank, figures, teacher_of, tiny, train


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("why_ferd", ROOT / "scripts/why_ferd.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pixels = np.random.default_rng(0).integers(0, 256, (330, 1, 8, 8), np.uint8)
    data = LabelledImages(
        "noise", pixels, np.arange(330) % 3, ("a", "b", "c"), np.arange(330), "memory"
    )
    monkeypatch.setattr(module, "load_dataset", lambda *args, **named: data)
    return module


def test_its_table_agrees_with_the_run(script, teacher_file, tmp_path, capsys, same_code):
    train(tiny(synthesis__lambda_uni=5.0), teacher_file, tmp_path / "run")
    script.main([tmp_path / "run"], str(teacher_file), tmp_path)
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    found = dict(zip(header.split("|"), row.split("|"), strict=True))
    logs = figures(tmp_path / "run")
    assert found["run"] == "run"
    agrees = np.mean([log["teacher_agrees"] for log in logs])
    assert float(found["as asked"]) == pytest.approx(agrees, abs=0.006)
    masked = np.mean([log["generator_terms"]["masked"] for log in logs])
    assert float(found["masked"]) == pytest.approx(masked, abs=0.006)
    raw = np.frombuffer(bank(tmp_path / "run")["images.u8"], np.uint8).reshape(-1, 1, 8, 8)
    with torch.no_grad():
        logits = teacher_of(teacher_file).classifier(torch.from_numpy(raw / np.float32(255)))
    confidence = logits.softmax(1).amax(1).mean()
    assert float(found["confidence"]) == pytest.approx(float(confidence), abs=0.006)
    # By the log's own vulnerabilities; an epoch without a class keeps that class's last.
    drawn = [
        value > 0
        for log in logs
        for value, count in zip(log["vulnerability"], log["class_counts"], strict=True)
        if count
    ]
    assert float(found["D > 0"]) == pytest.approx(np.mean(drawn), abs=0.2)


def test_ranks_are_compared_and_even_weights_have_none(script):
    assert script.rank_correlation([0.1, 0.2, 0.3], np.array([1.0, 5.0, 9.0])) == 1
    assert script.rank_correlation([0.3, 0.2, 0.1], np.array([1.0, 5.0, 9.0])) == -1
    assert script.rank_correlation([0.1] * 3, np.array([1.0, 5.0, 9.0])) is None
    means = script.by_class(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3)
    assert np.array_equal(means, [2.0, np.nan, 5.0], equal_nan=True)
