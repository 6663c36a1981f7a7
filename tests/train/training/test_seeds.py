"""Random numbers are keyed: none depends on what was drawn before."""

from __future__ import annotations

import itertools

import torch

from ferd_train.training.seeds import Randomness

PURPOSES = ("labels", "generator", "latents")


def test_every_key_has_a_seed_of_its_own_that_torch_takes():
    keys = itertools.product(range(12), range(12), PURPOSES, range(12))
    seeds = [Randomness(run, epoch).seed(purpose, step) for run, epoch, purpose, step in keys]
    assert len({*seeds}) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_seeds_stay_what_they_are():
    """Else a run that was begun with an earlier version would continue as another."""
    assert Randomness(0, 1).seed("labels") == SEED
    assert Randomness(0, 1).seed("labels", 0) == SEED


def test_streams_repeat_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first, second = (torch.rand(5, generator=Randomness(3, 2).stream("labels")) for _ in range(2))
    other = torch.rand(5, generator=Randomness(3, 2).stream("draws"))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


# sha256("0:1:labels:0"), its first eight bytes as a little-endian number, halved.
SEED = 8530380114280023335
