"""A run that takes a second: three classes of stripes, a network of width two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ferd_eval.results.manifest
from ferd_eval.datasets import LabelledImages
from ferd_eval.runtime.device import DeviceChoice
from ferd_train.adversarial_training.run import train_teacher
from ferd_train.monitoring.writer import Pictures
from ferd_train.recipes.teacher import TeacherRecipe
from tests.train.student_runs import CODE, write_teacher

Train = Callable[..., Path]


def stripes(per_class: int = 20, seed: int = 0) -> LabelledImages:
    """28×28 noise with brighter rows, columns or diagonal, the classes taking turns."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.arange(3), per_class)
    images = generator.integers(0, 156, (len(labels), 1, 28, 28))
    row, column = np.mgrid[:28, :28]
    for label, stripe in enumerate((row, column, row + column)):
        images[labels == label] += 100 * (stripe % 4 < 2)
    return LabelledImages(
        name="stripes",
        images_NCHW=images.astype(np.uint8),
        labels_N=labels,
        class_names=("rows", "columns", "diagonals"),
        indices_N=np.arange(1000, 1000 + len(labels)),
        source="generated",
    )


@pytest.fixture(scope="session")
def striped() -> LabelledImages:
    return stripes()


@pytest.fixture(scope="session")
def other_stripes() -> LabelledImages:
    return stripes(seed=1)


@pytest.fixture(scope="session")
def striped_file(striped: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(
        file, images=striped.images_NCHW, labels=striped.labels_N, class_names=striped.class_names
    )
    return file


@pytest.fixture(scope="session")
def tiny() -> TeacherRecipe:
    return TeacherRecipe(
        dataset="fashion-mnist",
        arch="cnn28-2",
        eps=Fraction(1, 10),
        inner_step=Fraction(4, 100),
        inner_steps=2,
        epochs=3,
        batch_size=16,
        lr=0.1,
        ema_decay=0.7,
        validation_per_class=4,
    )


@pytest.fixture(scope="session")
def cpu() -> DeviceChoice:
    return DeviceChoice.here(torch.device("cpu"), "test")


@pytest.fixture(scope="session")
def train(tiny: TeacherRecipe, striped: LabelledImages, cpu: DeviceChoice) -> Train:
    """``train(out, data=…, device=…, watch=…, epochs=2)``: the tiny recipe with changes."""

    def run(
        out: Path,
        data: LabelledImages = striped,
        device: DeviceChoice = cpu,
        watch: Any = lambda *_: None,
        **changes: Any,
    ) -> Path:
        recipe = tiny.with_changes(changes)
        return train_teacher(recipe, out, device=device, data=data, watch=watch)

    return run


@pytest.fixture(scope="module")
def same_code() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ferd_eval.results.manifest, "code_state", lambda: CODE)
        yield


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


_DRAW_CHARTS = Pictures._draw_charts


@pytest.fixture(scope="session", autouse=True)
def _no_charts() -> Iterator[None]:
    """Drawing takes longer than a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pictures, "_draw_charts", lambda *_, **__: None)
        yield


@pytest.fixture
def with_charts(_no_charts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pictures, "_draw_charts", _DRAW_CHARTS)
