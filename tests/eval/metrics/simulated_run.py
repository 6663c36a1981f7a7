"""A made-up run: outcomes and a manifest as the runner writes them, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ferd_eval.results.outcomes import Outcomes, conform

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def rows(
    attack: str,
    labels: Any,
    predictions: Any,
    clean: Any = None,
    *,
    indices: Any = None,
    targets: Any = None,
    margins: Any = None,
) -> pd.DataFrame:
    """Rows of one attack; without ``clean`` the clean predictions are those given."""
    labels, predictions = np.asarray(labels, dtype=int), np.asarray(predictions, dtype=int)
    correct = predictions == labels
    return pd.DataFrame(
        {
            "index": np.arange(len(labels)) if indices is None else indices,
            "label": labels,
            "attack": attack,
            "target": pd.NA if targets is None else targets,
            "clean_pred": predictions if clean is None else clean,
            "adv_pred": predictions,
            "correct": correct,
            "margin": np.where(correct, 1.0, -1.0) if margins is None else margins,
            "confidence": 0.5,
            "stage": pd.NA,
            "steps": 20,
            "linf": 8 / 255,
        }
    )


def constants(attack: str, eps: float = 8 / 255, eps_text: str = "8/255") -> dict[str, Any]:
    if attack == "clean":
        return {"family": "clean", "eps": None}
    return {
        "family": attack.partition("@")[0],
        "eps": eps,
        "eps_text": eps_text,
        "steps": 20,
        "step_size": eps / 4,
        "step_size_text": "2/255",
        "loss": "cross-entropy",
        "random_start": True,
        "final": "last iterate",
    }


def run(
    tables: Sequence[pd.DataFrame],
    names: Sequence[str],
    attacks: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Outcomes:
    """Outcomes of the given rows with a complete manifest."""
    table = conform(pd.concat(list(tables), ignore_index=True))
    ids = dict.fromkeys(table["attack"])
    manifest: dict[str, Any] = {
        "ferd_eval": "0.1.0",
        "status": "finished",
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:14:05+00:00",
        "command": ["ferd-eval", "score", "model.pt"],
        "checkpoint": {
            "name": "model.pt",
            "path": "/models/model.pt",
            "sha256": "ab" * 32,
            "format": "torch",
        },
        "model": {
            "architecture": "resnet18",
            "decided_by": "checkpoint keys",
            "num_classes": len(names),
            "in_channels": 3,
            "parameters": 11173962,
            "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
            "normalization_decided_by": "data set",
            "unused_keys": [],
        },
        "dataset": {
            "name": "cifar10",
            "source": "/data",
            "n": int(table["index"].nunique()),
            "fingerprint": "cd" * 32,
            "class_names": list(names),
            "class_counts": [],
            "image_shape": [3, 32, 32],
            "selection": "all",
            "note": "",
        },
        "threat": {"norm": "linf", "eps": 8 / 255, "eps_text": "8/255"},
        "attacks": dict(attacks) if attacks else {attack: constants(attack) for attack in ids},
        "seed": 0,
        "precision": {"dtype": "float32", "tf32": False},
        "device": {"kind": "cpu", "name": "x86_64", "reason": "no accelerator", "threads": 1},
        "packages": {"torch": "2.6.0", "numpy": "2.4.6"},
        "batch_size": 256,
        "cost": {attack: {"seconds": 1.25, "forward": 100, "backward": 80} for attack in ids},
        "warnings": [],
        **more,
    }
    return Outcomes(table, manifest)


def simulate(
    names: Sequence[str] = CIFAR10,
    per_class: int = 40,
    attacks: Sequence[str] = ("clean", "fgsm", "pgd", "aa"),
    *,
    seed: int = 0,
    profile: bool = False,
    targeted: bool = False,
    empty: Sequence[int] = (),
    **more: Any,
) -> Outcomes:
    """A run in which every attack is stronger than the one before and classes differ."""
    random = np.random.default_rng(seed)
    K = len(names)
    labels = np.repeat([k for k in range(K) if k not in empty], per_class)
    strength = random.random(len(labels))
    hold_K = random.uniform(0.6, 0.95, K)
    wrong = (labels + random.integers(1, max(K, 2), len(labels))) % K
    clean = np.where(strength < hold_K[labels], labels, wrong)
    tables, of = [], {}
    for i, attack in enumerate(attacks):
        share = 0.9**i * (hold_K if i == 0 else hold_K * random.uniform(0.6, 0.9, K))
        tables.append(
            rows(attack, labels, np.where(strength < share[labels], labels, wrong), clean)
        )
        of[attack] = constants(attack)
    if profile:
        for level in (2, 4, 16):
            attack = f"pgd@{level}/255"
            share = hold_K * (1 - level / 20)
            adversarial = np.where(strength < share[labels], labels, wrong)
            tables.append(rows(attack, labels, adversarial, clean))
            of[attack] = constants(attack, level / 255, f"{level}/255")
    if targeted:
        for shift in range(1, min(K, 4)):
            aims = (labels + shift) % K
            adversarial = np.where(random.random(len(labels)) < 0.3, aims, clean)
            tables.append(rows("targeted", labels, adversarial, clean, targets=aims))
        of["targeted"] = constants("targeted")
    return run(tables, names, of, **more)
