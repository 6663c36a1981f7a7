"""A short run on real images: right on most, and harder to fool than an undefended network."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.models import build_architecture, build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_train.adversarial_training.run import train_teacher
from ferd_train.recipes import find_teacher_recipe as find_recipe
from ferd_train.training.validation import hold_out

CLASSES = (0, 1, 7, 8, 9)
PER_CLASS = 20


@pytest.fixture(scope="module")
def clothes() -> LabelledImages:
    """Five of the classes of the packaged images."""
    data = load_dataset("demo")
    rows = np.flatnonzero(np.isin(data.labels_N, CLASSES))
    return replace(
        data,
        images_NCHW=data.images_NCHW[rows],
        labels_N=np.searchsorted(CLASSES, data.labels_N[rows]).astype(np.int64),
        indices_N=data.indices_N[rows],
        class_names=tuple(data.class_names[label] for label in CLASSES),
        groupings={},
    )


def undefended(data: LabelledImages, rows: np.ndarray) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_architecture("cnn28-8", num_classes=5, in_channels=1).build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    x, y = torch.from_numpy(data.images_NCHW) / 255, torch.from_numpy(data.labels_N)
    for epoch in range(8):
        for batch in np.array_split(np.random.default_rng(epoch).permutation(rows), 12):
            optimizer.zero_grad()
            F.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


def accuracies(network: torch.nn.Module, data: LabelledImages, rows: np.ndarray):
    """Clean, and under PGD-10 at ε = 0.1."""
    x, y = torch.from_numpy(data.images_NCHW[rows]) / 255, torch.from_numpy(data.labels_N[rows])
    with torch.no_grad():
        logits = network(x)
    verdicts = PGD(10)(
        network, Batch(x, y, torch.from_numpy(rows), logits), Threat("0.1"), seed=3, passes=Passes()
    )
    right = [(pred == y).float().mean().item() for pred in (logits.argmax(1), verdicts.adv_pred_R)]
    return tuple(right)


@pytest.mark.parametrize("loss", ["pgd-at", "trades"])
def test_it_learns_to_resist(loss, clothes, cpu, tmp_path):
    recipe = find_recipe("demo-cnn").with_changes(
        {
            "loss": loss,
            "arch": "cnn28-8",
            "epochs": 8,
            "batch_size": 32,
            "lr": 0.1,
            "ema_decay": 0.9,
            "validation_per_class": PER_CLASS,
        }
    )
    result = train_teacher(recipe, tmp_path, device=cpu, data=clothes)
    classifier, _ = build_classifier(load_checkpoint(result))
    trained, held_out = hold_out(clothes.labels_N, PER_CLASS)
    clean, robust = accuracies(classifier, clothes, held_out)
    plain_clean, plain_robust = accuracies(undefended(clothes, trained), clothes, held_out)
    assert min(clean, plain_clean) > 0.8  # chance is 0.2
    assert robust > plain_robust + 0.2
    last = json.loads((tmp_path / "manifest.json").read_text())["result"]
    assert last["validation_clean"] == pytest.approx(clean)
    assert last["validation_pgd"] == pytest.approx(robust, abs=0.1)
    assert 0 <= last["validation_pgd_worst_class"] <= last["validation_pgd"]
