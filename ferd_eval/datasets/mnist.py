"""MNIST and Fashion-MNIST, in the idx format (LeCun et al., 1998; Xiao et al., 2017)."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import BoundedFile, existing, require_memory

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# The two sets use the same file names; how their labels begin tells them apart.
_OPENING_LABELS: dict[str, dict[Split, tuple[int, ...]]] = {
    "mnist": {"test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9), "train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)},
    "fashion-mnist": {
        "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
        "train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
    },
}


def read_mnist(info: PublicDataset, folder: Path, layout: Layout, split: Split) -> LabelledImages:
    """Read MNIST or Fashion-MNIST from the folder that holds its idx files.

    UserError: a file is missing, cut short, damaged, or of the other set.
    """
    paths = [existing(folder / name) for name in layout.files(split)]
    for name, path in zip(layout.files(split), paths, strict=True):
        if path is None:
            raise UserError(
                f"{folder} lacks {name} (or {name}.gz), one of {info.name}'s two files."
            )
    images_path, labels_path = (path for path in paths if path is not None)

    labels_N = read_idx(labels_path, ndim=1).astype(np.int64)
    images_NHW = read_idx(images_path, ndim=3, image_shape=(28, 28))
    if len(images_NHW) != len(labels_N):
        raise UserError(
            f"{images_path} has {len(images_NHW)} images but {labels_path} has {len(labels_N)} "
            "labels: they do not belong together."
        )
    wrong = np.flatnonzero(labels_N >= len(info.class_names))
    if len(wrong):
        raise UserError(
            f"{labels_path} has label {labels_N[wrong[0]]} in record {wrong[0]}, but {info.name} "
            "has labels 0 to 9: the file is damaged or of another data set."
        )
    for other, openings in _OPENING_LABELS.items():
        if other != info.name and tuple(labels_N[:10].tolist()) == openings[split]:
            raise UserError(
                f"{labels_path} is {other}'s, not {info.name}'s (its first labels tell): "
                f"use --dataset {other}, or another --data-dir."
            )
    return info.images(images_NHW[:, np.newaxis], labels_N, folder)


def read_idx(
    path: Path, *, ndim: int, image_shape: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes with `ndim` dimensions, ``.gz`` or not.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and each
    dimension as a big-endian 32-bit integer; the values follow. `image_shape` is the height and
    width that the dimensions after the first must have. UserError: the header is another one, or
    more or less follows than it says.
    """
    length = 4 + 4 * ndim
    with BoundedFile(path) as file:
        header = bytes(file.read(length, f"its header alone has {length}"))
        if len(header) < length or header[:4] != bytes((0, 0, 8, ndim)):
            raise UserError(
                f"{path} starts with {header[:4].hex(' ') or 'nothing'}, but an idx file of "
                f"{ndim}-dimensional unsigned bytes starts with 00 00 08 {ndim:02x} and a header "
                f"of {length} bytes ({len(header)} are there); fetch it again."
            )
        shape = struct.unpack(f">{ndim}I", header[4:])
        if image_shape is not None and shape[1:] != image_shape:
            raise UserError(
                f"{path} has images of {' x '.join(map(str, shape[1:]))} pixels, but expected are "
                f"{' x '.join(map(str, image_shape))}: it is of another data set."
            )
        expected = prod(shape)
        promise = f"its header says {shape[0]} records, {expected} bytes after the header"
        found = ""
        values = bytearray()
        if length + expected > file.most:
            found = f"at most {file.most - length}"
        else:
            require_memory(expected, f"{path} ({shape[0]} records)")
            values = file.read(expected, promise)
            if len(values) < expected:
                found = f"only {len(values)}"
            elif file.read(1, promise):
                found = "more"
        if found:
            raise UserError(
                f"{path} says it holds {shape[0]} records, {expected} bytes after the header, but "
                f"{found} are there; fetch it again."
            )
    return np.frombuffer(values, np.uint8).reshape(shape)


_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
MNIST = PublicDataset(
    name="mnist",
    title="MNIST",
    num_classes=10,
    image_shape=(1, 28, 28),
    default_eps=Fraction(3, 10),
    licence="CC BY-SA 3.0",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    layout="MNIST/raw/t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, .gz or not",
    downloader="MNIST",
    cite=("lecun1998gradient",),
    class_names=tuple("0123456789"),
    layouts=(Layout(("MNIST/raw", "raw", "."), _TEST, _TRAIN),),
    read=read_mnist,
)
FASHION_MNIST = replace(
    MNIST,
    name="fashion-mnist",
    title="Fashion-MNIST",
    default_eps=Fraction(1, 10),
    licence="MIT",
    url="https://github.com/zalandoresearch/fashion-mnist",
    layout="FashionMNIST/raw/t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, .gz or not",
    downloader="FashionMNIST",
    cite=("xiao2017fashion",),
    class_names=FASHION_MNIST_CLASSES,
    layouts=(Layout(("FashionMNIST/raw", "raw", "."), _TEST, _TRAIN),),
)
