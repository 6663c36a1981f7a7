"""A learning rate that is too high: the cause is named and the last good epoch is kept."""

from __future__ import annotations

import json

import pytest
import torch

from ferd_eval.errors import UserError


def kept_after_divergence(train, folder, **changes) -> int:
    """Train until it diverges; return the epochs that the folder keeps, with finite weights."""
    states = {}

    def remember(log, epochs):
        states[log.epoch] = (folder / "state.pt").read_bytes()

    for _ in range(2):  # the same command again comes to the same end
        with pytest.raises(UserError, match=r"diverged in epoch \d .*too high.*lower") as caught:
            train(folder, watch=remember, **changes)
    assert "\n" not in str(caught.value)
    assert json.loads((folder / "manifest.json").read_text())["status"] == "running"
    assert not (folder / "teacher.safetensors").exists()
    if not states:
        assert not (folder / "state.pt").exists()
        assert "kept" not in str(caught.value)
        return 0
    epochs = max(states)
    assert f"diverged in epoch {epochs + 1} " in str(caught.value)
    assert "The state kept last is from before that" in str(caught.value)
    assert (folder / "state.pt").read_bytes() == states[epochs]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == epochs
    state = torch.load(folder / "state.pt", weights_only=True)
    for part in ("network", "average"):
        assert all(tensor.isfinite().all() for tensor in state[part].values())
    return epochs


def test_a_loss_that_is_not_a_number(train, tmp_path):
    assert kept_after_divergence(train, tmp_path / "run", lr=1e25) == 0


def test_a_last_step_that_spoils_the_weights_after_a_finite_loss(train, tmp_path):
    """One step an epoch: the rate is 0 in the first, and the second's loss comes before its step.

    A weight decay of 1e20 makes that step overflow.
    """
    changes = {"batch_size": 60, "lr": 1e25, "weight_decay": 1e20}
    assert kept_after_divergence(train, tmp_path / "run", **changes) == 1


def test_a_batch_that_does_not_fit_into_memory(train, tmp_path, monkeypatch):
    def too_large(self, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(torch.optim.SGD, "step", too_large)
    with pytest.raises(UserError, match=r"a batch of 16 images does not fit .* of cpu.*batch_size"):
        train(tmp_path / "run")
