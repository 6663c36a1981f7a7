"""The picture of the synthetic images, read back pixel by pixel against the bank."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from ferd_train.monitoring.gallery import COLUMNS, ROWS, evenly, gallery
from ferd_train.synthesis.image_bank import Bank

PAPER, EMPTY = (255, 255, 255), (244, 242, 237)


def bank_of(folder, labels, shape=(1, 28, 28)) -> tuple[Bank, np.ndarray]:
    """Random images, and their bytes."""
    random = np.random.default_rng(0)
    bytes_NCHW = random.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    bank = Bank.create(folder / "bank", shape)
    bank.append(torch.from_numpy(bytes_NCHW).float() / 255, *[torch.tensor(labels)] * 2)
    return bank, bytes_NCHW


def grid(content: bytes, rows: int, side: int) -> np.ndarray:
    """Cells as rows × columns × side × side × 3; they end 10 pixels from right and bottom."""
    sheet_HWC = np.asarray(Image.open(io.BytesIO(content)))
    step = side + 2
    bottom, right = sheet_HWC.shape[0] - 10, sheet_HWC.shape[1] - 10
    body_HWC = sheet_HWC[bottom - rows * step : bottom, right - COLUMNS * step : right]
    cells = body_HWC.reshape(rows, step, COLUMNS, step, 3).swapaxes(1, 2)
    assert (cells[:, :, side:] == PAPER).all()
    assert (cells[:, :, :, side:] == PAPER).all()
    return cells[:, :, :side, :side]


def enlarged(pixels_CHW: np.ndarray, scale: int) -> np.ndarray:
    grey_or_colour = np.broadcast_to(pixels_CHW, (3, *pixels_CHW.shape[1:]))
    return np.kron(grey_or_colour, np.ones((1, scale, scale), np.uint8)).transpose(1, 2, 0)


def is_empty(cell: np.ndarray) -> bool:
    return bool((cell == EMPTY).all())


@pytest.mark.parametrize(
    ("shape", "scale"),
    [((1, 28, 28), 2), ((3, 32, 32), 2), ((1, 8, 8), 8), ((3, 64, 64), 1), ((3, 80, 80), 1)],
)
def test_rows_are_classes_and_columns_their_history(tmp_path, shape, scale):
    labels = [0, 2, 2, 0, 2] * 12
    bank, bytes_NCHW = bank_of(tmp_path, labels, shape)
    cells = grid(gallery(bank, ["a", "b", "c"]), 3, shape[1] * scale)
    for label in (0, 2):
        own = [place for place, each in enumerate(labels) if each == label]
        spaced = [own[round(i * (len(own) - 1) / 9)] for i in range(10)]
        assert (spaced[0], spaced[-1]) == (own[0], own[-1])
        for column, place in enumerate(spaced):
            expected = enlarged(bytes_NCHW[place], scale)
            np.testing.assert_array_equal(cells[label, column], expected)
    assert is_empty(cells[1])


def test_a_class_with_few_images_shows_each_once(tmp_path):
    bank, bytes_NCHW = bank_of(tmp_path, [1, 0, 1, 1])
    cells = grid(gallery(bank, ["a", "b"]), 2, 56)
    for column, place in enumerate((0, 2, 3)):
        np.testing.assert_array_equal(cells[1, column], enlarged(bytes_NCHW[place], 2))
    assert is_empty(cells[1, 3:])
    assert is_empty(cells[0, 1:])


def test_of_many_classes_evenly_chosen_ones_are_shown(tmp_path):
    bank, bytes_NCHW = bank_of(tmp_path, [*range(100)])
    cells = grid(gallery(bank, [str(label) for label in range(100)]), ROWS, 56)
    shown = [0, 5, 10, 16, 21, 26, 31, 36, 42, 47, 52, 57, 63, 68, 73, 78, 83, 89, 94, 99]
    for row, label in enumerate(shown):
        np.testing.assert_array_equal(cells[row, 0], enlarged(bytes_NCHW[label], 2))


def test_it_is_said_that_only_some_classes_are_shown(tmp_path):
    """The caption is pixels, so it is compared with that of as many classes as there are rows."""
    bank, _ = bank_of(tmp_path, [0])
    pictures = [gallery(bank, ["a"] * classes) for classes in (20, 21, 22)]
    captions = [np.asarray(Image.open(io.BytesIO(each)))[:25] for each in pictures]
    assert captions[0].shape == captions[1].shape == captions[2].shape
    ink = [int((each < 128).any(axis=2).sum()) for each in captions]
    assert ink[1] > 1.2 * ink[0]
    assert not np.array_equal(captions[1], captions[2])


def test_names_stand_at_the_left_of_their_rows(tmp_path):
    bank, _ = bank_of(tmp_path, [0, 1, 2])
    sheet_HWC = np.asarray(Image.open(io.BytesIO(gallery(bank, ["Sandal", "", "Bag"]))))
    left = sheet_HWC.shape[1] - 10 - COLUMNS * 58
    bottom = sheet_HWC.shape[0] - 10
    rows = sheet_HWC[bottom - 3 * 58 : bottom, :left].reshape(3, 58, left, 3)
    ink_R = (rows < 128).any(axis=3).sum(axis=(1, 2))
    assert ink_R[0] > ink_R[2] > 20
    assert ink_R[1] == 0
    assert (sheet_HWC[26:, left - 4 : left] == 255).all()  # names end before the images begin


def test_a_long_name_leaves_room_for_the_images(tmp_path):
    bank, bytes_NCHW = bank_of(tmp_path, [0])
    content = gallery(bank, ["W" * 500])
    assert Image.open(io.BytesIO(content)).width < 1000
    np.testing.assert_array_equal(grid(content, 1, 56)[0, 0], enlarged(bytes_NCHW[0], 2))


def test_of_other_channels_the_first_is_shown(tmp_path):
    bank, bytes_NCHW = bank_of(tmp_path, [0], (2, 32, 32))
    cells = grid(gallery(bank, ["a"]), 1, 64)
    np.testing.assert_array_equal(cells[0, 0], enlarged(bytes_NCHW[0, :1], 2))


def test_an_empty_bank_has_empty_rows(tmp_path):
    bank = Bank.create(tmp_path / "bank", (1, 28, 28))
    assert is_empty(grid(gallery(bank, ["a", "b"]), 2, 56))


def test_only_what_is_drawn_is_read(tmp_path, monkeypatch):
    bank, _ = bank_of(tmp_path, [0, 1] * 500)
    read, original = [], bank.read

    def noting(place_B):
        read.extend(place_B)
        return original(place_B)

    monkeypatch.setattr(bank, "read", noting)
    gallery(bank, ["a", "b", "c"])
    assert len(read) == 2 * COLUMNS


@pytest.mark.parametrize("total", [0, 1, 2, 9, 10, 11, 57, 1000])
def test_evenly(total):
    places = evenly(total, 10)
    assert len(places) == min(total, 10)
    assert len({*places}) == len(places)
    if total > 1:
        assert (places[0], places[-1]) == (0, total - 1)
        steps = np.diff(places)
        assert steps.max() - steps.min() <= 1
        assert math.isclose(steps.mean(), (total - 1) / (len(places) - 1))
