"""The bank against plain arrays: what comes back, what a kill leaves, what memory it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from ferd_eval.errors import UserError
from ferd_eval.runtime.malloc import give_back_freed_memory
from ferd_train.synthesis import image_bank as module
from ferd_train.synthesis.image_bank import LABELS, Bank, to_bytes

SHAPE = (2, 3, 4)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def epoch(seed: int, n: int = 7, shape: tuple[int, int, int] = SHAPE) -> tuple:
    x = torch.rand(n, *shape, generator=source(seed))
    asked = torch.randint(0, 100, (n,), generator=source(seed))
    return x, asked, torch.randint(0, 100, (n,), generator=source(seed + 100))


def contents(bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Every image and label, found by drawing until each place has come up."""
    x, labels, places = bank.draw(40 * len(bank), source(9))
    first = [int((places == place).nonzero()[0]) for place in range(len(bank))]
    return x[first].numpy(), labels[first].numpy()


def reference(*epochs: tuple, labels: str = "asked") -> tuple[np.ndarray, np.ndarray]:
    """Rounded one pixel at a time."""
    x = np.concatenate([x.numpy() for x, _, _ in epochs])
    pixels = np.array([np.float32(round(255 * float(v))) / np.float32(255) for v in x.ravel()])
    classes = [asked if labels == "asked" else seen for _, asked, seen in epochs]
    return pixels.reshape(x.shape), np.concatenate([y.numpy() for y in classes])


def assert_holds(bank: Bank, *epochs: tuple) -> None:
    x, labels = reference(*epochs, labels=bank.labels)
    for ours, theirs in zip(contents(bank), (x, labels), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(bank.read_labels(), labels)


@pytest.mark.parametrize("labels", LABELS)
def test_what_goes_in_comes_out_rounded(tmp_path, labels):
    bank = Bank.create(tmp_path / "bank", SHAPE, labels)
    assert len(bank) == len(bank.read_labels()) == 0
    bank.append(*epoch(0))
    bank.append(*epoch(1, n=3))
    assert len(bank) == 10
    assert_holds(bank, epoch(0), epoch(1, n=3))
    for other in LABELS:
        assert_holds(Bank.open(tmp_path / "bank", 10, other), epoch(0), epoch(1, n=3))
    assert bank.grown(0).labels == labels


def test_pixels_move_by_a_510th_at_most_and_are_not_darkened():
    x = torch.rand(50_000, 1, 1, 1, generator=source()).double()
    gap = torch.from_numpy(to_bytes(x)).double() / 255 - x
    assert gap.abs().max() <= 1 / 510 + 1e-12
    assert abs(gap.mean()) < 1e-4
    levels = torch.arange(256).reshape(256, 1, 1, 1)
    assert torch.equal(torch.from_numpy(to_bytes(levels / 255)), levels.byte())


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan")])
def test_what_is_no_pixel_is_refused(wrong):
    with pytest.raises(AssertionError, match="outside"):
        to_bytes(torch.full((1, 1, 1, 1), wrong))


def test_draws_are_uniform_over_all_epochs_and_follow_the_seed(tmp_path):
    bank = Bank.create(tmp_path, SHAPE)
    for seed in range(4):
        bank.append(*epoch(seed))
    x, labels, places = bank.draw(10_000, source(5))
    counts = np.bincount(places, minlength=28)
    assert stats.chisquare(counts).pvalue > 0.001
    again = bank.draw(10_000, source(5))
    assert all(torch.equal(a, b) for a, b in zip((x, labels, places), again, strict=True))
    assert not torch.equal(places, bank.draw(10_000, source(6))[2])
    assert (x.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_any_places_can_be_read_as_bytes(tmp_path):
    bank = Bank.create(tmp_path, SHAPE)
    bank.append(*epoch(0))
    bank.append(*epoch(1))
    x, labels = reference(epoch(0), epoch(1))
    place_B = np.array([13, 0, 7, 7])
    bytes_BCHW, labels_B = bank.read(place_B)
    assert bytes_BCHW.dtype == np.uint8
    np.testing.assert_array_equal(bytes_BCHW, np.rint(x[place_B] * 255))
    np.testing.assert_array_equal(labels_B, labels[place_B])
    with pytest.raises(IndexError):
        bank.read(np.array([14]))


def test_nothing_is_read_of_an_empty_bank(tmp_path):
    bytes_BCHW, labels_B = Bank.create(tmp_path, SHAPE).read(np.zeros(0, dtype=np.int64))
    assert (bytes_BCHW.shape, labels_B.shape) == ((0, *SHAPE), (0,))


def test_a_bank_is_continued_as_if_never_closed(tmp_path):
    whole = Bank.create(tmp_path / "whole", SHAPE)
    part = Bank.create(tmp_path / "part", SHAPE)
    for seed in range(3):
        whole.append(*epoch(seed))
        part = Bank.open(tmp_path / "part", 7 * seed)
        part.append(*epoch(seed))
    for name in ("images.u8", "labels.i64", "seen.i64", "bank.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


def test_images_that_the_training_state_does_not_know_are_left_behind(tmp_path):
    bank = Bank.create(tmp_path, SHAPE)
    for seed in (0, 1, 2):
        bank.append(*epoch(seed))
    bank = Bank.open(tmp_path, 7)
    assert_holds(bank, epoch(0))
    # From here on the rest may be overwritten in part, so it does not count any more.
    with pytest.raises(UserError, match="7 images are there, 14 are expected"):
        Bank.open(tmp_path, 14)
    bank.append(*epoch(5, n=2))
    assert_holds(bank, epoch(0), epoch(5, n=2))
    assert_holds(Bank.open(tmp_path, 9), epoch(0), epoch(5, n=2))
    with pytest.raises(UserError, match="9 images are there, 14 are expected"):
        Bank.open(tmp_path, 14)


@pytest.mark.parametrize("written", ["images", "labels"])
def test_a_kill_while_appending_leaves_what_was_there(tmp_path, monkeypatch, written):
    bank = Bank.create(tmp_path, SHAPE)
    bank.append(*epoch(0))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if written == "labels":
            patched.setattr(module, "write_atomically", kill)
        else:
            patched.setattr(module.os, "fsync", kill)
        with pytest.raises(Killed):
            bank.append(*epoch(1))
    bank = Bank.open(tmp_path, 7)
    assert_holds(bank, epoch(0))
    bank.append(*epoch(2))
    assert_holds(bank, epoch(0), epoch(2))


def test_a_full_disk_is_an_error_that_keeps_what_was_there(tmp_path, monkeypatch):
    bank = Bank.create(tmp_path, SHAPE)
    bank.append(*epoch(0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*finished epochs are kept"):
            bank.append(*epoch(1))
    assert_holds(bank, epoch(0))
    bank.append(*epoch(2))
    assert_holds(bank, epoch(0), epoch(2))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "bank.json").unlink(), "No such file"),
        (lambda folder: (folder / "bank.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "bank.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "bank.json").write_text('{"count": 7}'), "image_shape"),
        (lambda folder: (folder / "labels.i64").unlink(), "No such file"),
        (lambda folder: cut(folder / "labels.i64"), "labels.i64 has 55 bytes, 56 are expected"),
        (lambda folder: (folder / "seen.i64").unlink(), "No such file"),
        (lambda folder: cut(folder / "seen.i64"), "seen.i64 has 55 bytes, 56 are expected"),
        (lambda folder: cut(folder / "images.u8"), "images.u8 has 167 bytes, 168 are expected"),
    ],
)
def test_a_damaged_bank_is_an_error_that_says_how_to_go_on(tmp_path, damage, message):
    Bank.create(tmp_path, SHAPE).append(*epoch(0))
    damage(tmp_path)
    with pytest.raises(UserError, match="--out") as error:
        Bank.open(tmp_path, 7)
    assert message in str(error.value)


def test_files_grow_by_what_is_appended(tmp_path):
    bank = Bank.create(tmp_path, SHAPE)
    for seed in range(5):
        bank.append(*epoch(seed))
        assert (tmp_path / "images.u8").stat().st_size == 7 * (seed + 1) * 24
        for name in LABELS.values():
            assert (tmp_path / name).stat().st_size == 7 * (seed + 1) * 8
        assert json.loads((tmp_path / "bank.json").read_text())["count"] == 7 * (seed + 1)


def anonymous_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_with_the_epochs(tmp_path):
    """Forty epochs of 1 MB; files that are mapped are the system's to drop."""
    shape, random = (3, 32, 32), source()
    bank = Bank.create(tmp_path, shape)
    batch = epoch(0, n=341, shape=shape)
    seen = []
    for _ in range(40):
        bank.append(*batch)
        for _ in range(5):
            bank.draw(64, random)
        give_back_freed_memory()  # what other tests freed is not the bank's
        seen.append(anonymous_kilobytes())
    assert (tmp_path / "images.u8").stat().st_size > 40e6
    # The lowest of some epochs: what the allocator has not given back yet comes and goes.
    assert min(seen[-8:]) - min(seen[4:12]) < 8_000
