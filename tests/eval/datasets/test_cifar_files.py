import gzip
import hashlib
import pickle
import struct
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ferd_eval.datasets import load_dataset
from ferd_eval.datasets.cifar import (
    CIFAR10,
    CIFAR100_CLASSES,
    CIFAR100_SUPERCLASSES,
    OFFICIAL,
    SUPERCLASS_MEMBERS,
)

RECORD = 3073


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)


def binary(images, *labels):
    columns = [np.array(column, np.uint8).reshape(-1, 1) for column in labels]
    return np.hstack([*columns, images.reshape(len(images), -1)]).tobytes()


def python2_pickle(batch):
    """A batch as Python 2 and NumPy 1 wrote the published ones, instruction by instruction."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def value_of(value):
        if isinstance(value, bytes):
            return text(value)
        if isinstance(value, list):
            items = b"".join(text(v) if isinstance(v, bytes) else b"K" + bytes([v]) for v in value)
            return b"](" + items + b"e"
        raw = value.tobytes()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
            b"(K\x01"
            + b"".join(b"J" + struct.pack("<i", n) for n in value.shape)
            + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
            b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
        )

    items = b"".join(text(key) + value_of(value) for key, value in batch.items())
    return b"\x80\x02}q\x00(" + items + b"u."


PICKLERS = {
    "python2": python2_pickle,
    **{f"protocol{p}": lambda batch, p=p: pickle.dumps(batch, protocol=p) for p in (2, 3, 4, 5)},
}


def save(path, content, packed):
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", [".", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_reads_binary_cifar10(tmp_path, place, packed):
    save(tmp_path / place / "test_batch.bin", binary(pixels(4), [3, 0, 9, 3]), packed)
    images = load_dataset("cifar10", tmp_path)
    assert (images.images_NCHW == pixels(4)).all()
    assert images.labels_N.tolist() == [3, 0, 9, 3]
    assert images.indices_N.tolist() == [0, 1, 2, 3]
    assert images.class_names[3] == "cat"
    assert (images.name, images.note) == ("cifar10", "")
    assert images.images_NCHW.flags.writeable
    assert images.images_NCHW.flags.c_contiguous


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pickler", PICKLERS)
def test_reads_python_cifar10(tmp_path, pickler, packed):
    batch = {
        b"batch_label": b"testing batch 1 of 1",
        b"labels": [3, 0, 9],
        b"data": pixels(3).reshape(3, -1),
        b"filenames": [b"a.png", b"b.png", b"c.png"],
    }
    save(tmp_path / "cifar-10-batches-py" / "test_batch", PICKLERS[pickler](batch), packed)
    images = load_dataset("cifar10", tmp_path)
    assert (images.images_NCHW == pixels(3)).all()
    assert images.labels_N.tolist() == [3, 0, 9]
    assert images.images_NCHW.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("labels", [[1, 2], np.array([1, 2], ">i4"), list(np.array([1, 2]))])
def test_reads_any_way_numpy_pickles_arrays(tmp_path, order, labels):
    batch = {"labels": labels, "data": np.asarray(pixels(2).reshape(2, -1), order=order)}
    save(tmp_path / "test_batch", pickle.dumps(batch), packed=False)
    images = load_dataset("cifar10", tmp_path)
    assert (images.images_NCHW == pixels(2)).all()
    assert images.labels_N.tolist() == [1, 2]


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_training_batches_are_joined_in_order(tmp_path, layout):
    for i in range(1, 6):
        images = pixels(2, seed=i)
        if layout == "binary":
            save(tmp_path / f"data_batch_{i}.bin", binary(images, [i, 9]), packed=i == 2)
        else:
            batch = {b"labels": [i, 9], b"data": images.reshape(2, -1)}
            save(tmp_path / f"data_batch_{i}", python2_pickle(batch), packed=i == 2)
    train = load_dataset("cifar10", tmp_path, split="train")
    assert train.labels_N.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert (train.images_NCHW[8:] == pixels(2, seed=5)).all()
    assert train.indices_N.tolist() == list(range(10))


@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_reads_cifar100(tmp_path, layout, split):
    if layout == "binary":
        path = tmp_path / "cifar-100-binary" / f"{split}.bin"
        save(path, binary(pixels(2), [4, 1], [0, 1]), packed=False)
    else:
        batch = {
            b"fine_labels": [0, 1],
            b"coarse_labels": [4, 1],
            b"data": pixels(2).reshape(2, -1),
        }
        save(tmp_path / "cifar-100-python" / split, python2_pickle(batch), packed=False)
    images = load_dataset("cifar100", tmp_path, split=split)
    assert images.labels_N.tolist() == [0, 1]
    assert (images.images_NCHW == pixels(2)).all()
    assert images.groupings["superclass"][:2] == ("fruit and vegetables", "fish")
    assert images.num_classes == 100


def test_cifar100_names_and_superclasses_are_the_published_ones(shared_data):
    """The data's own coarse labels number the superclasses in alphabetical order."""
    official = np.load(shared_data / "cifar100_official_test916.npz")
    groups = list(SUPERCLASS_MEMBERS)
    assert len(set(official["fine"].tolist())) == 100
    for coarse, fine in zip(official["coarse"], official["fine"], strict=True):
        assert groups[coarse] == CIFAR100_SUPERCLASSES[fine]
    assert len(CIFAR100_CLASSES) == len(set(CIFAR100_CLASSES)) == 100
    assert {len(members) for members in SUPERCLASS_MEMBERS.values()} == {5}


def test_agrees_with_torchvision(tmp_path, monkeypatch):
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # these are not the real files
    folder = tmp_path / "cifar-10-batches-py"
    batch = {b"labels": [7, 1, 4], b"data": pixels(3).reshape(3, -1)}
    save(folder / "test_batch", python2_pickle(batch), packed=False)
    save(folder / "batches.meta", pickle.dumps({"label_names": ["x"] * 10}), packed=False)
    theirs = cifar.CIFAR10(str(tmp_path), train=False)
    ours = load_dataset("cifar10", tmp_path)
    assert (ours.images_NCHW.transpose(0, 2, 3, 1) == theirs.data).all()
    assert ours.labels_N.tolist() == theirs.targets


def test_official_images_carry_no_note(tmp_path, shared_data):
    ten = np.load(shared_data / "cifar10_official_test1017.npz")
    images = ten["images"].transpose(0, 3, 1, 2)
    save(tmp_path / "ten" / "test_batch.bin", binary(images, ten["labels"]), packed=False)
    assert load_dataset("cifar10", tmp_path / "ten").note == ""
    hundred = np.load(shared_data / "cifar100_official_test916.npz")
    images = hundred["images"].transpose(0, 3, 1, 2)
    content = binary(images, hundred["coarse"], hundred["fine"])
    save(tmp_path / "hundred" / "test.bin", content, packed=False)
    assert load_dataset("cifar100", tmp_path / "hundred").note == ""


def test_reencoded_images_carry_a_note(tmp_path, shared_data):
    jpeg = np.load(shared_data / "cifar10_jpeg.npz")
    blob, offsets = jpeg["test_jpeg"], jpeg["test_offsets"][:1001]
    images = np.stack(
        [
            np.asarray(Image.open(BytesIO(blob[a:b].tobytes())).convert("RGB"))
            for a, b in pairwise(offsets)
        ]
    ).transpose(0, 3, 1, 2)
    save(tmp_path / "test_batch.bin", binary(images, jpeg["test_labels"][:1000]), packed=False)
    note = load_dataset("cifar10", tmp_path).note
    assert note == "these are not the official CIFAR-10 test images"


def test_only_whole_test_sets_are_judged(tmp_path):
    for name, count in (("cifar10", 1000), ("cifar100", 900)):
        for n, noted in ((count - 1, False), (count, True)):
            labels = [np.zeros(n)] * (2 if name == "cifar100" else 1)
            file = "test.bin" if name == "cifar100" else "test_batch.bin"
            save(tmp_path / f"{name}-{n}" / file, binary(pixels(n), *labels), packed=False)
            assert bool(load_dataset(name, tmp_path / f"{name}-{n}").note) is noted


def test_cut_short_binary_file(tmp_path, refused):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(binary(pixels(3), [1, 2, 3])[:-100])
    with refused(
        path, f"{3 * RECORD - 100} bytes", f"multiple of {RECORD}", "whole: 2", "cut short"
    ):
        load_dataset("cifar10", tmp_path)
    path.write_bytes(b"")
    with refused(path, "0 bytes", f"multiple of {RECORD}"):
        load_dataset("cifar10", tmp_path)


def test_cut_short_gzip(tmp_path, refused):
    path = tmp_path / "test_batch.bin.gz"
    packed = gzip.compress(binary(pixels(3), [1, 2, 3]))
    path.write_bytes(packed[: len(packed) // 2])
    with refused(path, "cut short", "bytes", f"{RECORD} a record", "fetch it again"):
        load_dataset("cifar10", tmp_path)
    path.write_bytes(packed[:-4])
    with refused(path, "cut short", f"after {3 * RECORD} bytes"):
        load_dataset("cifar10", tmp_path)
    path.write_bytes(packed[:200] + bytes(200) + packed[400:])
    with refused(path):
        load_dataset("cifar10", tmp_path)
    path.write_bytes(b"no gzip at all")
    with refused(path, "gzip", "fetch it again"):
        load_dataset("cifar10", tmp_path)


def test_gzip_bomb_is_not_unpacked(tmp_path, refused):
    packer = gzip.GzipFile(tmp_path / "test_batch.bin.gz", "wb", compresslevel=1)
    with packer:
        for _ in range(320):
            packer.write(bytes(1 << 20))
    with refused("unpacks to more than", 100_000 * RECORD, "no CIFAR file"):
        load_dataset("cifar10", tmp_path)


def test_label_out_of_range(tmp_path, refused):
    (tmp_path / "test_batch.bin").write_bytes(binary(pixels(3), [1, 10, 3]))
    with refused("test_batch.bin", "label 10 in record 1", "0 to 9"):
        load_dataset("cifar10", tmp_path)
    (tmp_path / "test.bin").write_bytes(binary(pixels(2), [0, 0], [99, 100]))
    with refused("test.bin", "label 100 in record 1", "0 to 99"):
        load_dataset("cifar100", tmp_path)
    (tmp_path / "python").mkdir()
    batch = {"labels": [-1], "data": pixels(1).reshape(1, -1)}
    (tmp_path / "python" / "test_batch").write_bytes(pickle.dumps(batch))
    with refused("label -1 in record 0"):
        load_dataset("cifar10", tmp_path / "python")


def test_missing_batch_is_named(tmp_path, refused):
    for i in (1, 3, 4):
        save(tmp_path / f"data_batch_{i}.bin", binary(pixels(1), [0]), packed=False)
    with refused(tmp_path, "data_batch_2.bin, data_batch_5.bin", "5 cifar10 train", "unpack"):
        load_dataset("cifar10", tmp_path, split="train")


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ({"fine_labels": [1], "data": np.zeros((1, 3072), np.uint8)}, ["fine_labels", "labels"]),
        ({"labels": [1]}, ["['labels']", "data and labels"]),
        ({"labels": [1], "data": np.zeros((1, 3071), np.uint8)}, ["(1, 3071)", "(1, 3072)"]),
        ({"labels": [1, 2], "data": np.zeros((1, 3072), np.uint8)}, ["(1, 3072)", "2 labels"]),
        ({"labels": [1.5], "data": np.zeros((1, 3072), np.uint8)}, ["0 labels"]),
        ({"labels": [1], "data": np.zeros((1, 3072), np.int64)}, ["uint8"]),
        ({"labels": [1], "data": b"abc"}, ["uint8"]),
        ({"labels": [1], "data": np.zeros((1, 3072))}, ["type 'f8'"]),
        ({"labels": [1], "data": np.array([None])}, ["type 'O8'"]),
        ([1, 2], ["list, not a dictionary"]),
        ({"labels": 10**400}, ["test_batch"]),
    ],
)
def test_other_pickles(tmp_path, refused, batch, parts):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    with refused(tmp_path / "test_batch", *parts):
        load_dataset("cifar10", tmp_path)


def test_cut_short_pickle(tmp_path, refused):
    path = tmp_path / "test_batch"
    content = python2_pickle({b"labels": [1, 2], b"data": pixels(2).reshape(2, -1)})
    for length in (0, 1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with refused(path, "not a whole pickle", "unpack the archive again"):
            load_dataset("cifar10", tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_binary_files_are_read_or_refused(tmp_path_factory, read_or_refused, data):
    content = bytearray(binary(pixels(2), [1, 2]))
    packed = data.draw(st.booleans())
    if packed:
        content = bytearray(gzip.compress(bytes(content)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) // 2, 3, 0]))]
    folder = tmp_path_factory.mktemp("cifar")
    (folder / f"test_batch.bin{'.gz' * packed}").write_bytes(content)
    with read_or_refused():
        images = CIFAR10.read(CIFAR10, folder, CIFAR10.layouts[0], "test")
        assert images.images_NCHW.shape[1:] == (3, 32, 32)
        assert len(images) == (len(content) // RECORD if not packed else 2)


def test_hash_constant_is_over_images_then_labels(shared_data):
    """The digest of the official test set, computed without the loader."""
    ten = np.load(shared_data / "cifar10_official_test1017.npz")
    planes = ten["images"][:1000].transpose(0, 3, 1, 2).tobytes()
    labels = ten["labels"][:1000].astype(np.uint8).tobytes()
    assert hashlib.sha256(planes + labels).hexdigest() == OFFICIAL["cifar10"].sha256
