"""A user's own images and labels in one NumPy archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.npz import NpzArchive, open_npz

_IMAGE_KEYS = {
    "test": ("images", "x", "x_test", "data"),
    "train": ("x_train", "images", "x", "data"),
}
_LABEL_KEYS = {
    "test": ("labels", "y", "y_test", "targets"),
    "train": ("y_train", "labels", "y", "targets"),
}
# Without class_names there are as many classes as the largest label says.
_MAX_CLASSES = 100_000


def read_npz(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read images and labels from ``path``.

    Images are found under ``images``, ``x``, ``x_test`` or ``data`` (``x_train`` for the training
    split), labels under ``labels``, ``y``, ``y_test`` or ``targets`` (``y_train``). Classes are
    called as the user lists them, else as ``class_names`` in the file, else by their numbers.

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
        labels_N = _labels(arrays, labels_key)
        images_NCHW = _images(arrays, images_key)
        class_names = _class_names(arrays, labels_N, order)
    return LabelledImages(
        name=f"npz:{path.name}",
        images_NCHW=images_NCHW,
        labels_N=labels_N,
        class_names=class_names,
        indices_N=np.arange(len(labels_N), dtype=np.int64),
        source=str(path),
    )


def _labels(arrays: NpzArchive, key: str) -> NDArray[np.int64]:
    header = arrays.header(key)
    where = f"{arrays.path}: {key}"
    if len(header.shape) == 2 and header.shape[1] > 1:
        raise UserError(
            f"{where} has shape {header.shape}, which looks one-hot; save class numbers instead: "
            f"{key}.argmax(1)."
        )
    if len(header.shape) not in (1, 2):
        raise UserError(f"{where} has shape {header.shape}; save one class number an image.")
    if header.dtype.kind not in "iu":
        raise UserError(
            f"{where} has type {header.dtype}; save class numbers as integers from 0 to K-1."
        )
    labels_N = arrays.read(key).reshape(-1)
    if len(labels_N) and int(labels_N.min()) < 0:
        raise UserError(f"{where} has label {labels_N.min()}; classes are numbered from 0.")
    if len(labels_N) and int(labels_N.max()) >= _MAX_CLASSES:
        raise UserError(
            f"{where} has label {labels_N.max()}; number the classes 0, 1, 2 and so on "
            f"(at most {_MAX_CLASSES})."
        )
    return labels_N.astype(np.int64)


def _images(arrays: NpzArchive, key: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    header = arrays.header(key)
    where = f"{arrays.path}: {key}"
    channels_first = _channels_first(header.shape, where)
    if header.dtype.kind not in "uf" or (header.dtype.kind == "u" and header.dtype.itemsize > 1):
        raise UserError(f"{where} has type {header.dtype}; save uint8, or float32 between 0 and 1.")
    pixels = arrays.read(key)
    if pixels.dtype.kind == "f":
        _check_range(pixels, where)
        pixels = pixels.astype(np.float32)
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    elif not channels_first:
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels)


def _channels_first(shape: tuple[int, ...], where: str) -> bool:
    """Whether axis 1 is the channels; they are 1 or 3 in number."""
    if len(shape) == 3:
        return True
    first, last = (shape[1] in (1, 3), shape[3] in (1, 3)) if len(shape) == 4 else (False, False)
    if not first and not last:
        raise UserError(
            f"{where} has shape {shape}; save (N, H, W, C), (N, C, H, W) or (N, H, W) with 1 or 3 "
            "channels."
        )
    if first and last and shape[1] != shape[3]:
        raise UserError(f"{where} has shape {shape}, which may be NHWC or NCHW; save wider images.")
    return first


def _check_range(pixels: NDArray[Any], where: str) -> None:
    if not np.isfinite(pixels).all():
        raise UserError(f"{where} has values that are not finite; save floats between 0 and 1.")
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        return
    if low >= 0 and high <= 255:
        guess = "they look like 0 to 255: save them as uint8, or divide by 255"
    elif low < 0:
        guess = "they look normalised: save pixels between 0 and 1, the model normalises"
    else:
        guess = "scale them to [0, 1]"
    raise UserError(f"{where} has floats from {low:.4g} to {high:.4g}, outside [0, 1]; {guess}.")


def _class_names(
    arrays: NpzArchive, labels_N: NDArray[np.int64], order: ClassOrder
) -> tuple[str, ...]:
    listed = order.of_numbers()
    if "class_names" not in arrays.keys:
        return listed or tuple(str(label) for label in range(int(labels_N.max(initial=-1)) + 1))
    stored = _stored_names(arrays)
    if listed != stored and sorted(listed) == sorted(stored):
        k = next(k for k, name in enumerate(stored) if name != listed[k])
        raise UserError(
            f"class {k} is {listed[k]!r} in {order.source}, but {stored[k]!r} in class_names of "
            f"{arrays.path}. Leave the list out, or correct it."
        )
    return listed or stored


def _stored_names(arrays: NpzArchive) -> tuple[str, ...]:
    header = arrays.header("class_names")
    if header.dtype.kind not in "US" or len(header.shape) != 1:
        raise UserError(
            f"{arrays.path}: class_names has type {header.dtype} and shape {header.shape}; "
            "save a list of texts, one a class."
        )
    if header.shape[0] > _MAX_CLASSES:
        raise UserError(
            f"{arrays.path}: class_names has {header.shape[0]} names; give at most {_MAX_CLASSES}."
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
