"""The whole run against a plain loop written from the formulas; the file that comes out."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import ferd_eval
from ferd_eval.attacks import KeyedRng
from ferd_eval.models import build_architecture, build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_train.training.augmentation import crop_and_flip
from ferd_train.training.lr_schedule import one_cycle
from ferd_train.training.validation import hold_out


def attacked(network, x, y, start, objective, recipe):
    """Signed steps inside the ball, the network in eval mode."""
    network.eval()
    with torch.no_grad():
        clean = network(x)
    eps, adv = float(recipe.eps), start
    for _ in range(recipe.inner_steps):
        leaf = adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(network(leaf), clean, y), leaf)
        adv = adv + float(recipe.inner_step) * gradient.sign()
        adv = torch.min(torch.max(adv, x - eps), x + eps).clamp(0, 1)
    network.train()
    return adv


def kl(clean, logits):
    return F.kl_div(
        logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True
    ).sum(1)


def reference(recipe, data):
    """Train with torch's SGD, one image tensor, one loop; average the weights by hand.

    The walks of the attack follow signs of rounding where a gradient vanishes, so the operations
    are those of the trainer; `test_robust_losses` and `test_inner_attack` check the formulas.
    """
    torch.manual_seed(recipe.seed)
    network = build_architecture(recipe.arch, num_classes=3, in_channels=1).build().train()
    network.to(memory_format=torch.channels_last)  # the run's rounding
    average, steps_done = deepcopy(network), 0
    optimizer = torch.optim.SGD(
        network.parameters(), momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    x_all = torch.from_numpy(data.images_NCHW) / 255
    y_all, index_all = torch.from_numpy(data.labels_N), torch.from_numpy(data.indices_N)
    for epoch in range(recipe.epochs):
        order = np.random.default_rng((recipe.seed, epoch)).permutation(
            hold_out(data.labels_N, recipe.validation_per_class)[0]
        )
        batches = np.array_split(order, len(order) // recipe.batch_size)
        for step, rows in enumerate(batches):
            x, y = x_all[rows], y_all[rows]
            seed = recipe.seed * 1_000_003 + epoch
            augment = KeyedRng(seed, "augment", index_all[rows])
            x = crop_and_flip(x, augment, recipe.crop_padding, recipe.flip)
            if recipe.loss == "pgd-at":
                noise = KeyedRng(seed, "pgd", index_all[rows]).uniform((1, 28, 28), x.dtype)
                start = (x + float(recipe.eps) * (2 * noise - 1)).clamp(0, 1)
                adv = attacked(network, x, y, start, lambda z, _, y: F.cross_entropy(z, y), recipe)
                loss = F.cross_entropy(network(adv), y)
            else:
                noise = KeyedRng(seed, "kl-pgd", index_all[rows]).normal((1, 28, 28), x.dtype)
                start = (x + 0.001 * noise).clamp(0, 1)
                adv = attacked(network, x, y, start, lambda z, clean, _: kl(clean, z).sum(), recipe)
                clean = network(x)
                robust = kl(clean, network(adv)).sum() / len(y)
                loss = F.cross_entropy(clean, y) + recipe.trades_beta * robust
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = recipe.lr * one_cycle(
                (epoch + step / len(batches)) / recipe.epochs
            )
            optimizer.step()
            with torch.no_grad():
                decay = recipe.ema_decay if steps_done else 0.0
                now = network.state_dict()
                for key, mean in average.state_dict().items():
                    if mean.is_floating_point():
                        mean.copy_(decay * mean + (1 - decay) * now[key])
            steps_done += 1
    return average.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "pgd-at"},
        {"loss": "trades"},
        {"loss": "pgd-at", "crop_padding": 2, "flip": True, "seed": 1},
    ],
    ids=["pgd-at", "trades", "augmented"],
)
def test_the_saved_network_is_the_average_of_a_plain_loop(changes, train, tiny, striped, tmp_path):
    """Read back without being told anything, it gives the reference's logits."""
    recipe = tiny.with_changes({**changes, "epochs": 2})
    result = train(tmp_path / "run", **changes, epochs=2)
    classifier, facts = build_classifier(load_checkpoint(result))
    expected = reference(recipe, striped)
    x = torch.from_numpy(striped.images_NCHW) / 255
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected(x), rtol=1e-4, atol=5e-5)
    assert (facts.architecture, facts.num_classes, facts.in_channels) == ("cnn28-2", 3, 1)
    assert facts.normalization is None
    assert "recorded in the checkpoint's metadata" in facts.decided_by


def test_augmentation_and_seed_reach_the_result(train, tmp_path):
    runs = {
        name: train(tmp_path / name, epochs=1, **changes).read_bytes()[-2000:]
        for name, changes in {
            "plain": {},
            "again": {},
            "flip": {"flip": True},
            "crop": {"crop_padding": 2},
            "seed": {"seed": 1},
        }.items()
    }
    assert runs["plain"] == runs["again"]
    assert len(set(runs.values())) == 4


def test_the_record(train, tiny, tmp_path):
    result = train(tmp_path / "run", seed=5)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["checkpoint_selection"].startswith("last epoch")
    assert "no test data" in manifest["checkpoint_selection"]
    assert manifest["seed"] == manifest["recipe"]["seed"] == 5
    assert manifest["recipe"]["eps"] == "0.1"
    assert manifest["result"]["file"] == result.name
    assert manifest["result"]["sha256"] == hashlib.sha256(result.read_bytes()).hexdigest()
    assert manifest["result"]["sha256"] == load_checkpoint(result).sha256
    assert manifest["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert manifest["ferd_eval"] == ferd_eval.__version__
    assert load_checkpoint(result).metadata["ferd.dataset"] == "stripes"
    recorded = json.loads(str(load_checkpoint(result).metadata["ferd.recipe"]))
    assert recorded == manifest["recipe"] == tiny.with_changes({"seed": 5}).to_json()
    root = Path(ferd_eval.__file__).resolve().parents[1]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
        )
        assert manifest["code"]["commit"] == head.stdout.strip()


def test_metrics_as_csv_are_the_same_figures(train, tmp_path):
    train(tmp_path / "run")
    with (tmp_path / "run/metrics.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [{key: float(value) for key, value in row.items()} for row in table] == lines
    assert [row["epoch"] for row in lines] == [1, 2, 3]
    assert (
        lines[-1].items()
        <= json.loads((tmp_path / "run/manifest.json").read_text())["result"].items()
    )
