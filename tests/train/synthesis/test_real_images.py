"""Runs on real images: each once a pass, none that is held out, and never called data-free."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.base import RealImages, Setting
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.process_group import BatchShard, Workers
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import CPU, figures, tiny, train

pytestmark = pytest.mark.usefixtures("same_code")

N, K, SIDE, HELD = 30, 3, 8, 2


def images_of(seed: int = 0) -> LabelledImages:
    """Each image is known by its first pixel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (N, 1, SIDE, SIDE), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(N)
    return LabelledImages(
        "stripes", pixels, np.arange(N) % K, ("a", "b", "c"), np.arange(N), "memory"
    )


@pytest.fixture
def real_set(monkeypatch):
    images = images_of()
    monkeypatch.setattr("ferd_train.distillation.run.load_dataset", lambda *args, **kw: images)
    return images


def recipe_of(**changes) -> StudentRecipe:
    return tiny(
        **{
            "synthesis__method": "data",
            "synthesis__dataset": "stripes",
            "validation__per_class": HELD,
            "augmentation__crop_padding": 0,
            "augmentation__flip": False,
            **changes,
        }
    )


def deal(
    recipe: StudentRecipe, epochs: int, steps: int, share: BatchShard | None = None
) -> list[int]:
    """First pixels in the order they come, see `images_of`."""
    images = images_of()
    rows_N = np.arange(N - K * HELD)
    network = torch.nn.Identity()
    setting = Setting(
        network,
        network,
        (1, SIDE, SIDE),
        K,
        recipe.batch_size,
        recipe.eps,
        recipe.augmentation,
        recipe.seed,
        CPU.device,
        *([share] if share else []),
        real=RealImages(images, rows_N),
    )
    synthesis, came = recipe.synthesis.build(setting), []
    for epoch in range(1, epochs + 1):
        draw = synthesis.feed(None, Randomness(recipe.seed, epoch))
        for step in range(steps):
            x_BCHW, labels_B = draw(step)
            number_B = (x_BCHW[:, 0, 0, 0] * 255).round().long()
            assert torch.equal(labels_B, number_B % K)
            assert torch.equal(x_BCHW * 255, torch.from_numpy(images.images_NCHW[number_B]).float())
            came += number_B.tolist()
    return came


def test_each_image_comes_once_a_pass_and_passes_differ():
    came = deal(recipe_of(batch_size=9), epochs=2, steps=8)  # six passes of 24 images
    passes = [came[start : start + 24] for start in range(0, len(came), 24)]
    assert len(passes) == 6
    assert all(sorted(each) == list(range(24)) for each in passes)
    assert len({tuple(each) for each in passes}) == 6
    assert came != deal(recipe_of(batch_size=9, seed=1), epochs=2, steps=8)


def test_a_batch_may_be_larger_than_the_data():
    came = deal(recipe_of(batch_size=60), epochs=1, steps=2)
    assert Counter(came) == dict.fromkeys(range(24), 5)


def test_several_processes_deal_out_what_one_does():
    recipe = recipe_of(batch_size=7)
    whole = np.array(deal(recipe, 1, 5)).reshape(5, 7)
    shares = [BatchShard(Workers(rank, 2), 7) for rank in range(2)]
    parts = [np.array(deal(recipe, 1, 5, share)).reshape(5, -1) for share in shares]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_what_is_held_out_is_never_learnt_from(real_set, teacher_file, tmp_path, monkeypatch):
    seen: list[int] = []
    step = StudentTraining._step

    def watched(self, batch, seed):
        seen.extend((batch.x_BCHW[:, 0, 0, 0] * 255).round().long().tolist())
        return step(self, batch, seed)

    monkeypatch.setattr(StudentTraining, "_step", watched)
    train(recipe_of(distillation__steps=9), teacher_file, tmp_path / "run")
    assert {*seen} == {*range(N - K * HELD)}
    assert len(seen) == 3 * 9 * 8


@pytest.mark.usefixtures("with_charts")
def test_a_run_says_what_it_learnt_from_and_makes_nothing(real_set, teacher_file, tmp_path):
    out = tmp_path / "run"
    network = train(recipe_of(), teacher_file, out)
    manifest = json.loads((out / "manifest.json").read_text())
    said = "real, 24 of the training split of stripes: not data-free"
    assert manifest["training_images"] == said
    assert manifest["dataset"]["fingerprint"] == real_set.describe()["fingerprint"]
    assert manifest["checkpoint_selection"] == (
        "last epoch; no held-out images of the data set used"
    )
    with safe_open(network, "pt") as file:
        assert file.metadata()["ferd.training_images"] == said
    assert len(Bank.open(out / "bank", 0)) == 0
    assert not (out / "images.png").exists()
    assert not (out / "class_weights.svg").exists()
    learning = (out / "learning.svg").read_text()
    assert "Student, L_stu" in learning
    assert "Generator" not in learning
    for each in figures(out):
        assert (each["generator_loss"], each["kept_step"], each["teacher_agrees"]) == (None,) * 3
        assert each["class_counts"] == [0, 0, 0]
        assert each["student_loss"] > 0


def test_data_free_runs_say_so(teacher_file, tmp_path):
    out = tmp_path / "run"
    network = train(tiny(), teacher_file, out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["training_images"] == "synthetic, made from the teacher alone"
    assert manifest["dataset"] is None
    with safe_open(network, "pt") as file:
        assert file.metadata()["ferd.training_images"] == manifest["training_images"]


def test_other_data_is_another_run(real_set, teacher_file, tmp_path, monkeypatch):
    train(recipe_of(), teacher_file, tmp_path / "run")
    monkeypatch.setattr(
        "ferd_train.distillation.run.load_dataset", lambda *args, **kw: images_of(1)
    )
    with pytest.raises(UserError, match="on other data"):
        train(recipe_of(), teacher_file, tmp_path / "run")


def test_data_of_another_kind_is_refused(teacher_file, tmp_path, monkeypatch):
    wide = images_of()
    other = LabelledImages(
        "wide",
        np.zeros((N, 1, SIDE, 12), np.uint8),
        wide.labels_N,
        wide.class_names,
        wide.indices_N,
        "memory",
    )
    monkeypatch.setattr("ferd_train.distillation.run.load_dataset", lambda *args, **kw: other)
    with pytest.raises(UserError, match=r"synthesis\.dataset: wide has images of 1×8×12"):
        train(recipe_of(), teacher_file, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis__dataset": ""}, "name them, e.g. --set synthesis.dataset=fashion-mnist"),
        ({"warmup": 1}, "warmup is 1, but synthesis.method data has no images to make beforehand"),
        ({"reweighting__strategy": "loss"}, "synthesis.method data makes none; set it to uniform"),
        ({"variant": "paper"}, "variant paper is one of FERD, but synthesis.method is data"),
        ({"ablation": "no-fae"}, "ablation no-fae is one of FERD, but synthesis.method is data"),
        ({"synthesis__lambda_uni": 1}, "a recipe has no field 'synthesis.lambda_uni'"),
    ],
)
def test_what_real_images_do_not_go_with_is_said(changes, message):
    with pytest.raises(UserError) as caught:
        recipe_of(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
