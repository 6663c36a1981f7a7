"""Finished pieces of a run: what is read back is what was written, or nothing."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from ferd_eval.evaluation.shards import FolderShards, Shard
from ferd_eval.results.outcomes import conform

COUNT = 40


@pytest.fixture
def rows() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "index": np.arange(COUNT),
            "label": generator.integers(0, 3, COUNT),
            "attack": "pgd",
            "target": None,
            "clean_pred": generator.integers(0, 3, COUNT),
            "adv_pred": generator.integers(0, 3, COUNT),
            "correct": generator.random(COUNT) < 0.5,
            "margin": generator.normal(size=COUNT),
            "confidence": generator.random(COUNT),
            "stage": None,
            "steps": 20,
            "linf": generator.random(COUNT),
        }
    )
    table = conform(table)
    table.attrs = {"seconds": 1.5, "forward": 1280, "backward": 1280}
    return table


@pytest.fixture
def kept(rows, tmp_path):
    """A unit with its images, in a folder."""
    units, unit = FolderShards(tmp_path / "units"), Shard("pgd", "", 0, tuple(range(COUNT)))
    images = np.random.default_rng(1).random((COUNT, 1, 4, 4), dtype=np.float32)
    units.put(unit, rows, images)
    return units, unit


def test_rows_and_what_they_cost_come_back(kept, rows):
    units, unit = kept
    back = units.get(unit, np.arange(COUNT), images=True)
    pd.testing.assert_frame_equal(conform(back), rows, check_exact=True)
    assert back.attrs == {"seconds": 1.5, "forward": 1280, "backward": 1280}
    assert rows.attrs == back.attrs  # what was given is left alone
    assert units.get(unit, np.arange(COUNT) + 1, images=True) is None  # other images


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_a_flipped_bit_is_seen_or_means_the_same(kept, suffix):
    """Of the table also where Parquet's checksums do not reach."""
    units, unit = kept
    expected = units.get(unit, np.arange(COUNT), images=True)
    arrays = dict(np.load(units.file(unit, ".npz")))
    file = units.file(unit, suffix)
    good = file.read_bytes()
    unseen = 0
    for place in random.Random(0).sample(range(8 * len(good)), 400):
        torn = bytearray(good)
        torn[place // 8] ^= 1 << place % 8
        file.write_bytes(bytes(torn))
        back = units.get(unit, np.arange(COUNT), images=True)
        if back is None:
            continue
        unseen += 1
        assert back.equals(expected)
        assert (back.attrs, list(back.dtypes)) == (expected.attrs, list(expected.dtypes))
        read = dict(np.load(units.file(unit, ".npz")))
        assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    assert unseen < 300  # most are seen


def test_a_torn_file_is_no_unit(kept):
    units, unit = kept
    for suffix in (".parquet", ".npz"):
        file = units.file(unit, suffix)
        good = file.read_bytes()
        for length in (0, 1, 4, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:length])
            assert units.get(unit, np.arange(COUNT), images=True) is None
        file.write_bytes(good)
    assert units.get(unit, np.arange(COUNT), images=True) is not None
