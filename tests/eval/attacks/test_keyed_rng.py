"""Keyed random numbers: known answers, independence of position, distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from ferd_eval.attacks import KeyedRng
from ferd_eval.attacks.keyed_rng import philox4x32

# Known-answer tests published with the generator (Random123, kat_vectors, philox4x32 10 rounds).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, expected):
    words = philox4x32(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(word) for word in words) == expected


def test_an_image_meets_the_same_noise_in_any_batch():
    whole = KeyedRng(3, "pgd", torch.arange(50)).uniform((3, 5, 7), torch.float32)
    shuffled = torch.randperm(50)
    again = KeyedRng(3, "pgd", shuffled).uniform((3, 5, 7), torch.float32)
    assert torch.equal(again, whole[shuffled])


def test_float32_and_float64_agree_to_the_bit():
    noise = KeyedRng(0, "pgd", torch.arange(10))
    single, double = (noise.uniform((3, 8, 8), dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(single.double(), double)


@pytest.mark.parametrize(
    "other",
    [
        KeyedRng(1, "pgd", torch.arange(4)),
        KeyedRng(0, "cw", torch.arange(4)),
        KeyedRng(0, "pgd", torch.arange(4) + 4),
        KeyedRng(0, "pgd", torch.arange(4), torch.zeros(4, dtype=torch.int64)),
        KeyedRng(0, "pgd", torch.arange(4), torch.ones(4, dtype=torch.int64)),
    ],
)
def test_streams_are_distinct(other):
    first = KeyedRng(0, "pgd", torch.arange(4)).uniform((64,), torch.float64)
    assert not (first == other.uniform((64,), torch.float64)).any()


def test_draws_are_distinct():
    noise = KeyedRng(0, "pgd", torch.arange(4))
    assert not (noise.uniform((64,), torch.float64) == noise.uniform((64,), torch.float64, 1)).any()


def test_uniform_passes_kolmogorov_smirnov():
    numbers = KeyedRng(7, "pgd", torch.arange(100)).uniform((3, 32, 32), torch.float64).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    neighbours = np.corrcoef(numbers[:, 0, 0, :-1].ravel(), numbers[:, 0, 0, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.06


def test_normal_passes_kolmogorov_smirnov():
    numbers = KeyedRng(7, "utae", torch.arange(100)).normal((1, 20, 20), torch.float64).numpy()
    assert np.isfinite(numbers).all()
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
