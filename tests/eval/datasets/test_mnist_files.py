import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferd_eval.datasets import load_dataset
from ferd_eval.datasets.mnist import read_idx

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
MNIST_OPENING = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # the first ten test labels, as published
FASHION_OPENING = [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


def idx(values):
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def pixels(n, side=28):
    return np.random.default_rng(n).integers(0, 256, (n, side, side), dtype=np.uint8)


def save(folder, labels, *, packed=False, split="t10k", images=None):
    folder.mkdir(parents=True, exist_ok=True)
    images = pixels(len(labels)) if images is None else images
    for name, values in (
        (f"{split}-images-idx3-ubyte", images),
        (f"{split}-labels-idx1-ubyte", np.array(labels, np.uint8)),
    ):
        content = idx(values)
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "MNIST/raw"),
        ("mnist", "mnist"),
        ("mnist", "."),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist/FashionMNIST/raw"),
        ("fashion-mnist", "raw"),
    ],
)
@pytest.mark.parametrize("split", ["test", "train"])
def test_reads_every_place(tmp_path, name, place, packed, split):
    stem = "t10k" if split == "test" else "train"
    save(tmp_path / place, [5, 0, 9], packed=packed, split=stem)
    images = load_dataset(name, tmp_path, split=split)
    assert (images.images_NCHW == pixels(3)[:, np.newaxis]).all()
    assert images.labels_N.tolist() == [5, 0, 9]
    assert images.indices_N.tolist() == [0, 1, 2]
    assert images.class_names[9] == ("9" if name == "mnist" else "Ankle boot")
    assert images.images_NCHW.flags.writeable


def test_agrees_with_torchvision(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    save(tmp_path / "FashionMNIST" / "raw", [5, 0, 9, 9])
    save(tmp_path / "FashionMNIST" / "raw", [1], split="train")
    theirs = datasets.FashionMNIST(str(tmp_path), train=False)
    ours = load_dataset("fashion-mnist", tmp_path)
    assert (ours.images_NCHW[:, 0] == theirs.data.numpy()).all()
    assert ours.labels_N.tolist() == theirs.targets.tolist()
    assert list(ours.class_names) == theirs.classes


def test_reads_the_real_files(shared_data):
    test = load_dataset("fashion-mnist", shared_data / "fashion-mnist")
    assert test.images_NCHW.shape == (10_000, 1, 28, 28)
    assert test.class_counts.tolist() == [1000] * 10
    assert test.labels_N[:10].tolist() == FASHION_OPENING


def test_the_two_sets_are_told_apart(tmp_path, refused, shared_data):
    save(tmp_path, MNIST_OPENING)
    assert load_dataset("mnist", tmp_path).name == "mnist"
    with refused(tmp_path / LABELS, "mnist's", "--dataset mnist"):
        load_dataset("fashion-mnist", tmp_path)
    for split in ("test", "train"):
        with refused("fashion-mnist's", "--dataset fashion-mnist"):
            load_dataset("mnist", shared_data / "fashion-mnist", split=split)


def test_cut_short(tmp_path, refused):
    save(tmp_path, [1, 2, 3])
    (tmp_path / IMAGES).write_bytes(idx(pixels(3))[:-10])
    with refused(tmp_path / IMAGES, "3 records", "2352 bytes", "at most 2342", "fetch it again"):
        load_dataset("mnist", tmp_path)
    (tmp_path / IMAGES).write_bytes(idx(pixels(3)) + b"x")
    with refused(tmp_path / IMAGES, "2352 bytes", "more are there"):
        load_dataset("mnist", tmp_path)
    (tmp_path / IMAGES).write_bytes(idx(pixels(3))[:7])
    with refused(tmp_path / IMAGES, "header of 16 bytes (7 are there)"):
        load_dataset("mnist", tmp_path)


def test_cut_short_gzip(tmp_path, refused):
    save(tmp_path, [1, 2, 3], packed=True)
    path = tmp_path / f"{IMAGES}.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    with refused(path, "cut short", "its header says 3 records, 2352 bytes", "fetch it again"):
        load_dataset("mnist", tmp_path)
    path.write_bytes(packed[:-3])
    with refused(path, "ends after 2368 bytes"):
        load_dataset("mnist", tmp_path)
    path.write_bytes(gzip.compress(idx(pixels(3))[:-1]))
    with refused(path, "2352 bytes", "only 2351 are there"):
        load_dataset("mnist", tmp_path)
    path.write_bytes(packed[:-8] + bytes(8))
    with refused(path, "CRC", "fetch it again"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_cannot_claim_memory(tmp_path, refused, packed):
    save(tmp_path, [1])
    (tmp_path / IMAGES).unlink()
    claim = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 28, 28) + bytes(784)
    path = tmp_path / (f"{IMAGES}.gz" if packed else IMAGES)
    path.write_bytes(gzip.compress(claim) if packed else claim)
    with refused(path, "4294967295 records", "at most", "fetch it again"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["starts with nothing", "00 00 08 03", "0 are there"]),
        (b"<!DOCTYPE html>  ", ["3c 21 44 4f", "00 00 08 03"]),
        (bytes((0, 0, 13, 3)) + bytes(12), ["00 00 0d 03", "unsigned bytes"]),
        (bytes((0, 0, 8, 1)) + bytes(12), ["00 00 08 01", "00 00 08 03"]),
        (idx(pixels(2, side=32)), ["32 x 32", "28 x 28", "another data set"]),
    ],
)
def test_other_files(tmp_path, refused, content, parts):
    save(tmp_path, [1, 2])
    (tmp_path / IMAGES).write_bytes(content)
    with refused(tmp_path / IMAGES, *parts):
        load_dataset("mnist", tmp_path)


def test_images_and_labels_must_match(tmp_path, refused):
    save(tmp_path, [1, 2, 3], images=pixels(4))
    with refused(IMAGES, "4 images", LABELS, "3 labels", "do not belong together"):
        load_dataset("mnist", tmp_path)
    save(tmp_path, [1, 47, 3])
    with refused(LABELS, "label 47 in record 1", "0 to 9"):
        load_dataset("mnist", tmp_path)
    (tmp_path / LABELS).unlink()
    with refused(tmp_path, "lacks", LABELS, ".gz"):
        load_dataset("mnist", tmp_path)
    save(tmp_path, [])
    with refused("mnist", "no images"):
        load_dataset("mnist", tmp_path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_idx_files_are_read_or_refused(tmp_path_factory, read_or_refused, data):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = bytearray(idx(values))
    packed = data.draw(st.booleans())
    if packed:
        content = bytearray(gzip.compress(bytes(content)))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.mktemp("idx") / ("images.gz" if packed else "images")
    path.write_bytes(content)
    with read_or_refused():
        assert read_idx(path, ndim=3).size <= 24
