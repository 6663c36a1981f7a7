"""Student runs that take a fraction of a second: 8×8 images, networks of width two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.models import Normalization, build_architecture, save_network
from ferd_eval.runtime.device import DeviceChoice
from ferd_train.distillation.run import train_student
from ferd_train.distillation.teacher import FrozenTeacher, load_teacher
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.recipes.ferd import ferd_lab
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.base import Setting
from ferd_train.training.process_group import WHOLE, BatchShard

CPU = DeviceChoice.here(torch.device("cpu"), "test")
RESULT, STATE = "student.safetensors", "state.pt"

#: What runs record of the checkout, so that a commit made meanwhile stops none of them.
CODE = {"commit": "0" * 40, "dirty": False}

#: Every part of the paper's method is on; parts of this project's variant are off.
TINY = ferd_lab().with_changes(
    {
        "labels": "asked",
        "synthesis.renew": True,
        "synthesis.attacked": 0.0,
        "synthesis.inverted": 0.0,
        "synthesis.inversion.steps": 3,
        "synthesis.lambda_oh": 5.0,
        "synthesis.lambda_uni": 5.0,
        "reweighting.strategy": "margin-softmax",
        "reweighting.temperature": 4.0,
        "reweighting.cap": 0.0,
        "arch": "resnet8-w2",
        "image_size": 8,
        "eps": Fraction(1, 10),
        "epochs": 3,
        "warmup": 1,
        "batch_size": 8,
        "synthesis.steps": 3,
        "synthesis.latent": 8,
        "synthesis.width": 4,
        "synthesis.lr": 0.02,
        "synthesis.latent_lr": 0.3,
        "synthesis.bottleneck.steps": 3,
        "synthesis.bottleneck.lr": 2.0,
        "reweighting.attack_steps": 2,
        "loss.attack_steps": 2,
        "distillation.steps": 3,
        "augmentation.crop_padding": 1,
        "augmentation.flip": True,
        "held_out.share": 0.0,  # so that tests may count the bank
    }
)


def write_teacher(
    file: Path,
    *,
    arch: str = "resnet8-w2",
    num_classes: int = 3,
    in_channels: int = 1,
    seed: int = 0,
    normalization: Normalization | None = None,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A network with random weights and statistics, whose predictions differ between images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        architecture = build_architecture(arch, num_classes=num_classes, in_channels=in_channels)
        network = architecture.build()
        side = 28 if arch.startswith("cnn28") else 8
        coarse = torch.rand(64, in_channels, 2, 2)
        with torch.no_grad():  # statistics to match, and predictions that differ between images
            for _ in range(20):
                network(nn.functional.interpolate(coarse, size=side, mode="bilinear"))
            network.linear.weight.mul_(8)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_network(file, network, architecture, normalization, metadata, half=half)
    return file


def tiny(**changes: Any) -> StudentRecipe:
    """The tiny recipe; ``__`` in a name stands for its dot."""
    return TINY.with_changes({name.replace("__", "."): each for name, each in changes.items()})


def teacher_of(file: Path, recipe: StudentRecipe = TINY) -> FrozenTeacher:
    return load_teacher(file, recipe.image_size)


def setting_of(
    networks: tuple[nn.Module, nn.Module],
    recipe: StudentRecipe,
    batch_size: int,
    share: BatchShard = WHOLE,
) -> Setting:
    """Where a method makes grey images of 8×8 for three classes."""
    return Setting(
        *networks,
        (1, 8, 8),
        num_classes=3,
        batch_size=batch_size,
        eps=recipe.eps,
        augmentation=recipe.augmentation,
        seed=recipe.seed,
        device=CPU.device,
        share=share,
    )


def train(recipe: StudentRecipe, teacher: Path, out: Path, **arguments: Any) -> Path:
    frozen = _read_once(teacher, teacher.stat().st_mtime_ns, recipe.image_size)
    return train_student(recipe, frozen, out, device=CPU, **arguments)


@cache
def _read_once(file: Path, changed: int, image_size: int) -> FrozenTeacher:
    """No run changes its teacher."""
    return load_teacher(file, image_size)


def figures(folder: Path) -> list[dict[str, Any]]:
    """What was measured in each epoch, without wall clocks."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open(encoding="utf-8")]
    return [
        {name: value for name, value in line.items() if not name.startswith("seconds")}
        for line in lines
    ]


def bank(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "bank").iterdir())}


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]], dict[str, bytes]]:
    return (folder / RESULT).read_bytes(), figures(folder), bank(folder)


def weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / RESULT)


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def log(epoch: int, **changes: Any) -> StudentLog:
    """Figures of an epoch with two classes."""
    made_up: dict[str, Any] = {
        "epoch": epoch,
        "lr": 0.1,
        "generator_loss": 2.0,
        "generator_terms": {"bn": 0.5},
        "kept_step": 3,
        "teacher_agrees": 0.25,
        "class_weights": [0.75, 0.25],
        "class_counts": [3, 1],
        "seen_counts": [2, 2],
        "teacher_loss": [0.5, None],
        "vulnerability": [0.0, -1.0],
        "loss_per_class": {},
        "student_loss": 1.0,
        "student_agrees": 0.5,
        "held_out": None,
        "validation": None,
        "bank": 4 * epoch,
        "seconds_making": 1.0,
        "seconds_learning": 0.5,
    }
    return StudentLog(**{**made_up, **changes})
