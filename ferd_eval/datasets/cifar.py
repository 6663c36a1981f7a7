"""CIFAR-10 and CIFAR-100, in their binary and in their python layout (Krizhevsky, 2009)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.info import DatasetInfo, Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import BoundedFile, existing
from ferd_eval.io.numpy_pickle import read_array_pickle

_PIXELS = 3 * 32 * 32
# The published files hold at most 50 000 records; twice that bounds what a compressed one unpacks.
_MAX_RECORDS = 100_000
# Beside its pixels a record of the python layout has labels, a file name and their instructions.
_MAX_PICKLED_RECORD = _PIXELS + 1024

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

SUPERCLASS_MEMBERS = {
    "aquatic mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit and vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household electrical devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large man-made outdoor things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large natural outdoor scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large omnivores and herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium-sized mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles 1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles 2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}

# The fine labels number the hundred names in alphabetical order.
CIFAR100_CLASSES = tuple(sorted(name for names in SUPERCLASS_MEMBERS.values() for name in names))
_SUPERCLASS_OF = {name: group for group, names in SUPERCLASS_MEMBERS.items() for name in names}
CIFAR100_SUPERCLASSES = tuple(_SUPERCLASS_OF[name] for name in CIFAR100_CLASSES)


@dataclass(frozen=True)
class OfficialOpening:
    """How the publisher's test set begins: SHA-256 of its first images (NCHW) and labels."""

    count: int
    sha256: str


OFFICIAL = {
    "cifar10": OfficialOpening(
        count=1000, sha256="2c7f1e2769a741f695dfd5f74aa4a4ef08a7d20b9ec8576214dabab76c75c784"
    ),
    "cifar100": OfficialOpening(
        count=900, sha256="ee2e367693a576a328ae519d15217aec7178d4f62ad17a75212320415180b7cf"
    ),
}


def read_cifar(info: PublicDataset, folder: Path, layout: Layout, split: Split) -> LabelledImages:
    """Read CIFAR-10, or CIFAR-100 with its fine labels, from the folder that holds its files.

    UserError: a file is missing, cut short, damaged, or has labels beyond K − 1.
    """
    files = layout.files(split)
    paths = {name: existing(folder / name) for name in files}
    absent = [name for name, path in paths.items() if path is None]
    if absent:
        raise UserError(
            f"{folder} lacks {', '.join(absent)} of the {len(files)} {info.name} {split} files; "
            "unpack the archive again."
        )
    parts = [_read(path, info) for path in paths.values() if path is not None]
    images_NCHW = np.concatenate([images for images, _ in parts])
    labels_N = np.concatenate([labels for _, labels in parts])
    note = _note(info, images_NCHW, labels_N) if split == "test" else ""
    return info.images(images_NCHW, labels_N, folder, note)


def _note(info: DatasetInfo, images_NCHW: NDArray[np.uint8], labels_N: NDArray[np.int64]) -> str:
    official = OFFICIAL[info.name]
    if len(labels_N) < official.count:
        return ""
    if opening_sha256(images_NCHW, labels_N, official.count) == official.sha256:
        return ""
    return f"these are not the official {info.title} test images"


def opening_sha256(images_NCHW: NDArray[np.uint8], labels_N: NDArray[np.int64], count: int) -> str:
    """SHA-256 of the first ``count`` images, then their labels, one byte each."""
    digest = hashlib.sha256(np.ascontiguousarray(images_NCHW[:count]).data)
    digest.update(labels_N[:count].astype(np.uint8).data)
    return digest.hexdigest()


def _read(path: Path, info: DatasetInfo) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if path.name.removesuffix(".gz").endswith(".bin"):
        images_NCHW, labels_N = _read_binary(path, info)
    else:
        images_NCHW, labels_N = _read_python(path, info)
    assert info.num_classes is not None
    wrong = np.flatnonzero((labels_N < 0) | (labels_N >= info.num_classes))
    if len(wrong):
        raise UserError(
            f"{path} has label {labels_N[wrong[0]]} in record {wrong[0]}, but {info.name} has "
            f"labels 0 to {info.num_classes - 1}: the file is damaged or of another data set."
        )
    return images_NCHW, labels_N


def _read_binary(path: Path, info: DatasetInfo) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A record is its label bytes (CIFAR-100: coarse, fine), then the red, green, blue planes."""
    label_bytes = 2 if info is CIFAR100 else 1
    record = label_bytes + _PIXELS
    content = _read_whole(path, _MAX_RECORDS * record, f"a {info.name} file has {record} a record")
    if not content or len(content) % record:
        raise UserError(
            f"{path} has {len(content)} bytes, but a {info.name} file is a multiple of {record} "
            f"(whole: {len(content) // record} records, over: {len(content) % record} bytes); "
            "it is cut short or of another data set."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    images_NCHW = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return images_NCHW, records[:, label_bytes - 1].astype(np.int64)


def _read_python(path: Path, info: DatasetInfo) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    limit = _MAX_RECORDS * _MAX_PICKLED_RECORD
    batch = read_array_pickle(_read_whole(path, limit, "more belong to it"), path)
    key = "fine_labels" if info is CIFAR100 else "labels"
    pixels, labels = batch.get("data"), batch.get(key)
    if pixels is None or labels is None:
        raise UserError(
            f"{path} has {sorted(batch) or 'nothing'}, but a {info.name} file has "
            f"data and {key}: it is of another data set."
        )
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2):
        raise UserError(f"{path} has no uint8 table under data; unpack the archive again.")
    labels_N = _whole_numbers(labels)
    if pixels.shape != (len(labels_N), _PIXELS) or not len(labels_N):
        raise UserError(
            f"{path} has data of shape {pixels.shape} and {len(labels_N)} {key}, but expected is "
            f"({len(labels_N) or 'N'}, {_PIXELS}); unpack the archive again."
        )
    return pixels.reshape(-1, 3, 32, 32), labels_N


def _whole_numbers(labels: Any) -> NDArray[np.int64]:
    """The labels as an array; anything that is no list of small integers counts as empty."""
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if isinstance(labels, list) and all(type(y) is int and abs(y) < 2**31 for y in labels):
        return np.array(labels, dtype=np.int64)
    return np.empty(0, dtype=np.int64)


def _read_whole(path: Path, limit: int, expected: str) -> bytearray:
    with BoundedFile(path) as file:
        content = file.read(limit + 1, expected)
    if len(content) > limit:
        raise UserError(
            f"{path} unpacks to more than {limit} bytes ({_MAX_RECORDS} records): "
            "it is no CIFAR file."
        )
    return content


_URL = "https://www.cs.toronto.edu/~kriz"
_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
CIFAR10 = PublicDataset(
    name="cifar10",
    title="CIFAR-10",
    num_classes=10,
    image_shape=(3, 32, 32),
    default_eps=Fraction(8, 255),
    licence="no explicit licence; cite Krizhevsky (2009)",
    url=f"{_URL}/cifar-10-binary.tar.gz",
    layout="cifar-10-batches-bin/test_batch.bin or cifar-10-batches-py/test_batch",
    downloader="CIFAR10",
    cite=("krizhevsky2009learning",),
    class_names=CIFAR10_CLASSES,
    layouts=(
        Layout(
            ("cifar-10-batches-bin", "."), ("test_batch.bin",), tuple(f"{b}.bin" for b in _BATCHES)
        ),
        Layout(("cifar-10-batches-py", "."), ("test_batch",), tuple(_BATCHES)),
    ),
    archives=("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    read=read_cifar,
)
CIFAR100 = replace(
    CIFAR10,
    name="cifar100",
    title="CIFAR-100",
    num_classes=100,
    url=f"{_URL}/cifar-100-binary.tar.gz",
    layout="cifar-100-binary/test.bin or cifar-100-python/test",
    downloader="CIFAR100",
    class_names=CIFAR100_CLASSES,
    groupings={"superclass": CIFAR100_SUPERCLASSES},
    layouts=(
        Layout(("cifar-100-binary", "."), ("test.bin",), ("train.bin",)),
        Layout(("cifar-100-python", "."), ("test",), ("train",)),
    ),
    archives=("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"),
)
