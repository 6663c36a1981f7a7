"""Students of the baselines learn something real from the packaged teacher's made-up images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ferd_eval.datasets import load_dataset
from ferd_eval.models import build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.demo import demo_checkpoints
from ferd_train.distillation.run import train_student
from ferd_train.distillation.teacher import load_teacher
from ferd_train.recipes import find_student_recipe
from tests.train.student_runs import CPU, figures

pytestmark = [pytest.mark.usefixtures("same_code"), pytest.mark.slow]

SHORT: dict[str, Any] = {
    "epochs": 5,
    "warmup": 1,
    "batch_size": 64,
    "distillation.steps": 40,
    "loss.attack_steps": 1,
    "loss.step_size": "0.1",
}
METHODS: dict[str, dict[str, Any]] = {
    "fast": {"synthesis.renewed_at": 0},
    "deepinv": {"synthesis.steps": 40, "synthesis.lr": 0.1},
    "cmi": {"synthesis.steps": 30, "synthesis.negatives": 64, "synthesis.lr": 0.005},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_short_run_beats_chance_clearly(method, tmp_path):
    recipe = find_student_recipe(f"{method}-lab").with_changes({**SHORT, **METHODS[method]})
    with demo_checkpoints() as files:
        teacher = load_teacher(files[0], recipe.image_size)
        network = train_student(recipe, teacher, tmp_path / "run", device=CPU)
    student, _ = build_classifier(load_checkpoint(network))
    data = load_dataset("demo")
    with torch.no_grad():
        seen = student.eval()(torch.from_numpy(data.images_NCHW).float() / 255).argmax(1)
    assert (seen.numpy() == data.labels_N).mean() > 0.2  # chance is 0.1
    losses = [log["student_loss"] for log in figures(tmp_path / "run")][1:]
    assert losses[-1] < losses[0]
