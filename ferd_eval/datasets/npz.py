"""A user's own images and labels in one NumPy archive."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.stored_array import MAX_CLASSES, StoredArray, agreed_names, named_by
from ferd_eval.errors import UserError
from ferd_eval.io.npz import NpzArchive, open_npz

_IMAGE_KEYS = {
    "test": ("images", "x", "x_test", "data", "test_images"),
    "train": ("x_train", "train_images", "images", "x", "data"),
}
_LABEL_KEYS = {
    "test": ("labels", "y", "y_test", "targets", "test_labels"),
    "train": ("y_train", "train_labels", "labels", "y", "targets"),
}


def read_npz(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read images and labels from ``path``.

    Images are found under ``images``, ``x``, ``x_test``, ``data`` or MedMNIST's ``test_images``;
    those of the training split under ``x_train`` or ``train_images``, if there. Labels are found
    under ``labels``, ``y``, ``y_test``, ``targets`` or ``test_labels`` and, likewise, ``y_train``
    or ``train_labels``. Classes are called as the user lists them, else as ``class_names`` in the
    file, else by their numbers.

    UserError: the file is no whole archive, lacks an array, an array has a shape, a type or values
    that cannot be images or labels, or the user's list contradicts ``class_names``.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"npz file {path} {state}; give --dataset npz:PATH a file of np.savez.")
    with open_npz(path) as arrays:
        images_key = arrays.pick(_IMAGE_KEYS[split], "images")
        labels_key = arrays.pick(_LABEL_KEYS[split], "labels")
        counts = [(arrays.header(key).shape or (0,))[0] for key in (images_key, labels_key)]
        if counts[0] != counts[1]:
            raise UserError(
                f"{path}: {images_key} has {counts[0]} records but {labels_key} has "
                f"{counts[1]}; save as many labels as images."
            )
        labels_N = _stored(arrays, labels_key).labels()
        images_NCHW = _stored(arrays, images_key).images()
        class_names = _class_names(arrays, labels_N, order)
    return LabelledImages(
        name=f"npz:{path.name}",
        images_NCHW=images_NCHW,
        labels_N=labels_N,
        class_names=class_names,
        indices_N=np.arange(len(labels_N), dtype=np.int64),
        source=str(path),
    )


def _stored(arrays: NpzArchive, key: str) -> StoredArray:
    header = arrays.header(key)
    return StoredArray(
        f"{arrays.path}: {key}", header.shape, header.dtype, partial(arrays.read, key)
    )


def _class_names(
    arrays: NpzArchive, labels_N: NDArray[np.int64], order: ClassOrder
) -> tuple[str, ...]:
    if "class_names" not in arrays.keys:
        return named_by(order, labels_N)
    return agreed_names(order, _stored_names(arrays), str(arrays.path))


def _stored_names(arrays: NpzArchive) -> tuple[str, ...]:
    header = arrays.header("class_names")
    if header.dtype.kind not in "US" or len(header.shape) != 1:
        raise UserError(
            f"{arrays.path}: class_names has type {header.dtype} and shape {header.shape}; "
            "save a list of texts, one a class."
        )
    if header.shape[0] > MAX_CLASSES:
        raise UserError(
            f"{arrays.path}: class_names has {header.shape[0]} names; give at most {MAX_CLASSES}."
        )
    names = arrays.read("class_names")
    if header.dtype.kind == "S":
        names = np.char.decode(names, "utf-8")
    return tuple(str(name) for name in names)


NPZ = OwnDataset(
    name="npz",
    title="your arrays in an .npz file",
    layout="npz:PATH with images (uint8, or float in [0, 1]; NHWC, NCHW or NHW), integer labels, "
    "and class_names if you like",
    read=read_npz,
)
