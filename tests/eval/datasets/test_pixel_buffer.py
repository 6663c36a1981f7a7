"""Sets larger than memory: their pixels lie in a file, and scoring stays small."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from ferd_eval.datasets import load_dataset, pixel_buffer
from ferd_eval.datasets.pixel_buffer import room_for, rows_of
from ferd_eval.errors import UserError


def test_small_arrays_are_in_memory_and_large_ones_in_a_file_that_nobody_sees(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(pixel_buffer, "IN_MEMORY", 1000)
    small, large = room_for((10, 100), "images"), room_for((11, 100), "images")
    assert small.flags.owndata
    assert not large.flags.owndata
    assert type(large) is np.ndarray
    assert not [*tmp_path.iterdir()]
    large[:] = 7
    assert int(large.sum(dtype=np.int64)) == 7700


def test_rows_are_those_asked_for_however_large(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    for positions in (np.array([3, 1, 49, 3]), np.arange(20), np.arange(10, 30)):
        expected = pixels[positions]
        for limit in (10, 10**9):
            monkeypatch.setattr(pixel_buffer, "IN_MEMORY", limit)
            np.testing.assert_array_equal(rows_of(pixels, positions), expected)
        reals = (pixels / np.float32(255)).astype(np.float32)
        np.testing.assert_array_equal(rows_of(reals, positions), reals[positions])


def test_a_disk_without_room_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(pixel_buffer, "IN_MEMORY", 1000)
    with pytest.raises(UserError, match=r"\A9 images take [0-9.]+ GiB, which .* TMPDIR[^\n]*\Z"):
        room_for((2**20, 2**30), "9 images")


@pytest.mark.deep
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's accounts")
def test_scoring_takes_less_memory_than_the_images(tmp_path):
    """84 MiB of pixels, four times that as numbers in [0, 1]; both attacks meet all of them.

    The look at the network, which takes room for at most 256 images, is cut to 2.
    """
    folder, side, count = tmp_path / "set", 128, 1800
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        shade = generator.integers(0, 256, 3, dtype=np.uint8)
        image = Image.fromarray(np.broadcast_to(shade, (side, side, 3)).copy())
        image.save(folder / "ab"[number % 2] / f"{number:04d}.png")
    program = textwrap.dedent(
        f"""
        import sys, threading, time
        import torch
        from torch import nn
        from ferd_eval import load_dataset, score
        from ferd_eval.datasets import pixel_buffer
        from ferd_eval.evaluation import run
        from ferd_eval.runtime import malloc
        run._DIAGNOSED, run._FEWEST_DIAGNOSED = 10**9, 2
        malloc.SPARE = 2**24
        pixel_buffer.IN_MEMORY = 2**20 if sys.argv[1] == "mapped" else 2**40
        torch.set_num_threads(1)
        net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)).eval()
        few = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        score(net, few, "pgd", "8/255", steps=2)  # loads whatever there is to load

        def held():
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

        before = peak = held()

        def watch():
            global peak
            while True:
                peak = max(peak, held())
                time.sleep(0.002)

        threading.Thread(target=watch, daemon=True).start()
        data = load_dataset("folder:{folder}").first_per_class(900)
        print(len(score(net, data, "fgsm", "8/255", batch_size=4).table), peak - before)
        """
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def kibibytes(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", program, how],
            capture_output=True, text=True, env=environment, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        rows, grown = done.stdout.split()
        assert rows == "3600"
        return int(grown)

    pixels = count * 3 * side**2 // 1024
    assert kibibytes("mapped") < pixels
    assert kibibytes("held") > pixels


def test_folders_give_the_same_images_either_way(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            pixels = generator.integers(0, 256, (9, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    held = load_dataset(f"folder:{tmp_path}")
    monkeypatch.setattr(pixel_buffer, "IN_MEMORY", 100)
    mapped = load_dataset(f"folder:{tmp_path}")
    assert held.fingerprint == mapped.fingerprint
    assert held.first_per_class(3).fingerprint == mapped.first_per_class(3).fingerprint
