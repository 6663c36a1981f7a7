"""A user's own images and labels in two NumPy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.pixel_buffer import Pixels
from ferd_eval.datasets.stored_array import StoredArray, named_by
from ferd_eval.errors import UserError
from ferd_eval.io.npy import map_npy


def read_npy(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read ``IMAGES.npy,LABELS.npy``, two files with a comma; they are of whichever split is asked
    for.

    UserError: these are not two files, or `read_pair` refuses them.
    """
    files = [Path(name).expanduser() for name in str(path).split(",")]
    if len(files) != 2:
        raise UserError(
            f"npy takes two files, but {path} names {len(files)}; give "
            "--dataset npy:IMAGES.npy,LABELS.npy."
        )
    images_NCHW, labels_N = read_pair(*files)
    return LabelledImages(
        name=f"npy:{files[0].name}",
        images_NCHW=images_NCHW,
        labels_N=labels_N,
        class_names=named_by(order, labels_N),
        indices_N=np.arange(len(labels_N), dtype=np.int64),
        source=str(path),
    )


def read_pair(images_file: Path, labels_file: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """Images NCHW and labels N; UserError: a file is no whole array, or the arrays have shapes,
    types, values or lengths that cannot be images and their labels."""
    images, labels = (
        StoredArray.of(map_npy(file), str(file)) for file in (images_file, labels_file)
    )
    labels_N = labels.labels()
    count = (images.shape or (0,))[0]
    if count != len(labels_N):
        raise UserError(
            f"{images_file} has {count} images but {labels_file} has {len(labels_N)} labels; "
            "save as many labels as images."
        )
    return images.images(), labels_N


NPY = OwnDataset(
    name="npy",
    title="your arrays in two .npy files",
    layout="npy:IMAGES.npy,LABELS.npy with images (uint8, or float in [0, 1]; NHWC, NCHW or NHW) "
    "and integer labels",
    read=read_npy,
)
