"""The learning rate's schedule: its values, torch's one-cycle policy, the rates really used."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from ferd_train.training.lr_schedule import one_cycle


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0, 0), (0.15, 0.5), (0.3, 1), (0.475, (2 + math.sqrt(2)) / 4), (0.65, 0.5), (1, 0)],
)
def test_values(progress, share):
    assert one_cycle(progress) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("anneal", "part"), [("linear", slice(0, 301)), ("cos", slice(300, 1001))])
def test_is_torchs_policy_with_both_ends_at_zero(anneal, part):
    steps = 1000
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    policy = OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=steps + 1,
        pct_start=(0.3 * steps + 1) / (steps + 1),  # torch counts the step before the peak
        anneal_strategy=anneal,
        cycle_momentum=False,
        div_factor=1e12,
        final_div_factor=1e12,
    )
    rates = [policy.get_last_lr()[0]]
    for _ in range(steps):
        optimizer.step()
        policy.step()
        rates.append(policy.get_last_lr()[0])
    ours = [one_cycle(step / steps) for step in range(steps + 1)]
    assert ours[part] == pytest.approx(rates[part], abs=1e-9)


def test_a_run_follows_it(train, tiny, tmp_path):
    train(tmp_path / "run")
    logged = [json.loads(line)["lr"] for line in (tmp_path / "run/metrics.jsonl").open()]
    # 48 images in batches of 16: the last of an epoch's 3 steps begins after 2/3 of it.
    assert logged == [tiny.lr * one_cycle((epoch + 2 / 3) / 3) for epoch in range(3)]
