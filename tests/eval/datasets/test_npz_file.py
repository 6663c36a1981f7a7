import io
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferd_eval.datasets import load_dataset

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 6), dtype=np.uint8)
LABELS = np.array([2, 0, 1])


@pytest.fixture
def load(tmp_path):
    def save_and_load(split="test", **arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return load_dataset(f"npz:{tmp_path / 'mine.npz'}", split=split)

    return save_and_load


@pytest.mark.parametrize("images", ["images", "x", "x_test", "data"])
@pytest.mark.parametrize("labels", ["labels", "y", "y_test", "targets"])
def test_names(load, images, labels):
    mine = load(**{images: PIXELS, labels: LABELS})
    assert (mine.images_NCHW == PIXELS).all()
    assert mine.labels_N.tolist() == [2, 0, 1]
    assert mine.class_names == ("0", "1", "2")
    assert mine.name == "npz:mine.npz"


def test_splits(load):
    arrays = {"x_train": PIXELS[:2], "y_train": LABELS[:2], "x_test": PIXELS, "y_test": LABELS}
    assert len(load(**arrays)) == 3
    assert len(load("train", **arrays)) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (np.asfortranarray(PIXELS), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, :1], PIXELS[:, :1]),
        (PIXELS[:, 0, :, :, np.newaxis], PIXELS[:, :1]),
    ],
)
def test_shapes(load, given, expected):
    images = load(images=given, labels=LABELS).images_NCHW
    assert images.dtype == np.uint8
    assert (images == expected).all()
    assert images.flags.c_contiguous
    assert images.flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_are_kept(load, dtype):
    unit = (PIXELS / 255).astype(dtype)
    images = load(images=unit, labels=LABELS).images_NCHW
    assert images.dtype == np.float32
    assert (images == unit.astype(np.float32)).all()


@pytest.mark.parametrize("names", [["a", "b", "c"], np.array([b"a", b"b", b"c"])])
def test_class_names(load, names):
    assert load(images=PIXELS, labels=LABELS, class_names=names).class_names == ("a", "b", "c")


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64", ">i2"])
def test_label_types(load, dtype):
    for labels in (LABELS.astype(dtype), LABELS.astype(dtype).reshape(-1, 1)):
        mine = load(images=PIXELS, labels=labels)
        assert mine.labels_N.tolist() == [2, 0, 1]
        assert mine.labels_N.dtype == np.int64


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"images": PIXELS * 1.0}, ["floats from", "to 255", "0 to 255", "divide by 255"]),
        ({"images": PIXELS / 128 - 1}, ["floats from -1 ", "look normalised"]),
        ({"images": PIXELS * 300.0}, ["outside [0, 1]", "scale them"]),
        ({"images": np.full(PIXELS.shape, np.inf)}, ["not finite", "between 0 and 1"]),
        ({"images": PIXELS.astype(int)}, ["int64", "uint8"]),
        ({"images": PIXELS.astype("u2")}, ["uint16", "uint8"]),
        ({"images": PIXELS.reshape(3, -1)}, ["(3, 90)", "(N, H, W, C)"]),
        ({"images": np.zeros((3, 4, 5, 6), np.uint8)}, ["(3, 4, 5, 6)", "1 or 3 channels"]),
        ({"images": np.zeros((3, 1, 5, 3), np.uint8)}, ["(3, 1, 5, 3)", "NHWC or NCHW"]),
        ({"images": np.array([{}] * 3)}, ["images", "object", "never loaded", "plain array"]),
        ({"labels": np.array(["a", "b", "c"], object)}, ["labels", "never loaded"]),
        ({"labels": np.eye(3, dtype=int)}, ["(3, 3)", "labels has shape", "one-hot", "argmax(1)"]),
        ({"labels": LABELS * 1.0}, ["float64", "integers from 0 to K-1"]),
        ({"labels": LABELS - 1}, ["label -1", "from 0"]),
        ({"labels": LABELS * 10**9}, ["label 2000000000", "at most 100000"]),
        ({"labels": LABELS[:2]}, ["3 records", "has 2", "as many labels as images"]),
        ({"labels": LABELS.reshape(3, 1, 1)}, ["(3, 1, 1)", "one class number an image"]),
        ({"class_names": ["a", "b"]}, ["labels from 0 to 2", "2 classes"]),
        ({"class_names": ["a", "b", "a"]}, ["'a'", "its own name"]),
        ({"class_names": [1, 2, 3]}, ["class_names", "int64", "list of texts"]),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, ["no images"]),
    ],
)
def test_refusals(load, refused, changed, parts):
    with np.errstate(all="ignore"), refused("mine.npz", *parts):
        load(**{"images": PIXELS, "labels": LABELS} | changed)


def test_missing_arrays_are_listed(load, refused):
    with refused("['pictures', 'labels']", "images, x, x_test, data", "one of these names"):
        load(pictures=PIXELS, labels=LABELS)
    with refused("['images']", "labels, y, y_test, targets"):
        load(images=PIXELS)
    with refused("no arrays"):
        load()


def test_files_that_are_none(tmp_path, refused):
    with refused("nowhere.npz", "does not exist", "npz:PATH"):
        load_dataset("npz:nowhere.npz")
    with refused("is a folder"):
        load_dataset(f"npz:{tmp_path}")
    path = tmp_path / "mine.npz"
    np.savez(path, images=PIXELS, labels=LABELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with refused(path, f"{len(whole) // 2} bytes", "not a whole npz archive", "np.savez"):
        load_dataset(f"npz:{path}")
    at = whole.index(PIXELS.tobytes())
    path.write_bytes(whole[:at] + bytes(4) + whole[at + 4 :])
    with refused(path, "CRC"):
        load_dataset(f"npz:{path}")


def test_pickled_objects_never_run(tmp_path, refused):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "mine.npz"
    for key in ("images", "labels", "class_names"):
        arrays = {"images": PIXELS, "labels": LABELS, key: np.array([Bomb()] * 3, dtype=object)}
        np.savez(path, **arrays)
        with refused(key, "never loaded"):
            load_dataset(f"npz:{path}")
    assert not (tmp_path / "ran").exists()


def test_headers_cannot_claim_memory(tmp_path, refused):
    def npy(shape, stored):
        file = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue() + bytes(stored)

    labels = io.BytesIO()
    np.save(labels, LABELS)
    path = tmp_path / "mine.npz"
    for stored in (1_000_000, 3 * 10**6 + 1):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", npy((3, 1000, 1000), stored))
            archive.writestr("labels.npy", labels.getvalue())
        with refused("images", "(3, 1000, 1000)", "3000000 bytes", f"but {stored} are stored"):
            load_dataset(f"npz:{path}")


def test_more_than_the_memory(load, refused, monkeypatch):
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 100}.get)
    with refused("images of shape (3, 3, 5, 6)", "GiB", "use a part of it"):
        load(images=PIXELS, labels=LABELS)


@settings(max_examples=250, deadline=None)
@given(
    compressed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 3),
)
def test_mutated_archives_are_read_or_refused(
    tmp_path_factory, read_or_refused, compressed, changes, cut
):
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, x=PIXELS, y=LABELS, class_names=["a", "b", "c"])
    content = bytearray(file.getvalue())
    for at, byte in changes:
        content[at % len(content)] = byte
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    path.write_bytes(content[: len(content) - cut * 100])
    with read_or_refused():
        assert len(load_dataset(f"npz:{path}")) == 3


@settings(max_examples=100, deadline=None)
@given(header=st.text(max_size=80) | st.sampled_from(["(" * 3000, "[" * 80, "{[]: 1}", "1" * 5000]))
def test_any_npy_header_is_refused(tmp_path_factory, read_or_refused, header):
    text = header.encode()
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in ("x", "y"):
            prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
            archive.writestr(f"{key}.npy", prefix + text)
    with read_or_refused():
        load_dataset(f"npz:{path}")
        pytest.fail("this is no header")
