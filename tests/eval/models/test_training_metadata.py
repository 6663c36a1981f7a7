"""What runs keep of a checkpoint's own training: only what is well formed."""

from __future__ import annotations

import json

import pytest
import torch

from ferd_eval.models import build_architecture
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.checkpoint.training_metadata import training_record
from ferd_eval.models.save import save_network
from ferd_eval.results.manifest import IDENTITY


def test_recipe_and_teacher_of_a_saved_network_are_read(tmp_path):
    arch = build_architecture("resnet8-w2", num_classes=3)
    recipe = {"seed": 2, "eps": "0.1", "steps": [1, 2], "flip": False}
    metadata = {"ferd.recipe": json.dumps(recipe), "ferd.teacher_sha256": "0a" * 32}
    save_network(tmp_path / "s.safetensors", arch.build(), arch, None, metadata)
    found = training_record(load_checkpoint(tmp_path / "s.safetensors").metadata)
    assert found == {"recipe": recipe, "teacher_sha256": "0a" * 32}


def test_accuracies_and_data_set_are_read_as_plain_values():
    found = training_record(
        {"nature_acc": 0.84, "test_robust": 52.1, "epoch": 90, "ferd.dataset": "cifar10"}
    )
    assert found == {"trained_on": "cifar10", "recorded_accuracy": {"nature_acc": 0.84}}
    assert training_record({"ferd.dataset": "cifar10\n"}) == {}


def test_a_checkpoint_of_elsewhere_records_nothing(tmp_path):
    arch = build_architecture("resnet8-w2", num_classes=3)
    torch.save({"model": arch.build().state_dict(), "epoch": 3}, tmp_path / "s.pt")
    assert training_record(load_checkpoint(tmp_path / "s.pt").metadata) == {}


@pytest.mark.parametrize(
    "recipe",
    ["", "{}", "[1]", "3", "{'seed': 1}", '{"a": {"b": 1}}', '{"a": [[1]]}', "[" * 60_000,
     '{"a":' * 10_000, json.dumps({"a": "b" * 2**16}), 7, None, "\ud800"],
)  # fmt: skip
def test_what_is_no_recipe_is_left_out(recipe):
    assert training_record({"ferd.recipe": recipe}) == {}


@pytest.mark.parametrize("digest", ["", "0a" * 31, "0A" * 32, "0a" * 32 + "\n", 3, "<b>" * 32])
def test_what_is_no_digest_is_left_out(digest):
    assert training_record({"ferd.teacher_sha256": digest}) == {}


def test_finished_runs_of_before_are_still_the_same_runs():
    """The record does not say what was attacked: the digest of the file does."""
    assert not [path for path in IDENTITY if "recipe" in path or "teacher" in path]
    assert "checkpoint" not in IDENTITY
