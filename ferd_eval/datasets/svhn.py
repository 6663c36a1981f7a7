"""SVHN, cropped digits in MATLAB files (Netzer et al., 2011)."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import require_memory
from ferd_eval.io.mat import mat_variables

#: Photographs deflate to a tenth at best; small files are let off.
_MOST_INFLATED, _SMALL = 100, 1 << 24


def read_svhn(info: PublicDataset, folder: Path, layout: Layout, split: Split) -> LabelledImages:
    """Read ``X`` (32 × 32 × 3 × N) and ``y`` (N × 1, where 10 is the digit 0).

    UserError: the file is damaged or of another set.
    """
    (name,) = layout.files(split)
    path = folder / name
    pixels_HWCN, labels = _variables(path)
    labels = labels.reshape(-1)
    wrong, count = np.flatnonzero(~np.isin(labels, np.arange(1, 11))), len(labels)
    if pixels_HWCN.shape != (32, 32, 3, count) or pixels_HWCN.dtype != np.uint8 or not count:
        raise UserError(
            f"{path} holds X of {pixels_HWCN.dtype} and shape {pixels_HWCN.shape} and {count} "
            "labels y, but SVHN's cropped digits have uint8 of (32, 32, 3, N) and N; fetch it "
            "again."
        )
    if len(wrong):
        raise UserError(
            f"{path} has label {labels[wrong[0]]} in record {wrong[0]}, but SVHN has 1 to 10, "
            "where 10 is the digit 0: the file is damaged or of another data set."
        )
    images_NCHW = np.ascontiguousarray(pixels_HWCN.transpose(3, 2, 0, 1))
    return info.images(images_NCHW, labels.astype(np.int64) % 10, folder)


def _variables(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """``X`` and ``y``, whose sizes and types are checked before their values are unpacked."""
    size = path.stat().st_size
    try:
        known = {each.name: each for each in mat_variables(path)}
        for name in ("X", "y"):
            if name not in known:
                raise ValueError(f"it holds {', '.join(known)[:80] or 'nothing'}, but no {name}")
            found = known[name]
            if not found.is_numeric:
                raise ValueError(f"{name} is a {found.kind}, but expected are numbers")
            promised = max(prod(found.shape), found.size)
            if promised > max(_SMALL, _MOST_INFLATED * size):
                raise ValueError(f"{name} says {promised} values in a file of {size} bytes")
            require_memory(promised, f"{path}: {name} of shape {found.shape}")
        return known["X"].read(), known["y"].read()
    except ValueError as error:
        raise UserError(
            f"{path} is no MATLAB file of SVHN's cropped digits ({error}); fetch it again."
        ) from error


SVHN = PublicDataset(
    name="svhn",
    title="SVHN, cropped digits",
    num_classes=10,
    image_shape=(3, 32, 32),
    default_eps=Fraction(8, 255),
    licence="not commercial; cite Netzer et al. (2011)",
    url="http://ufldl.stanford.edu/housenumbers/",
    cite=("netzer2011reading",),
    layout="test_32x32.mat (and train_32x32.mat)",
    downloader="SVHN",
    download_by_split=True,
    class_names=tuple("0123456789"),
    layouts=(Layout((".", "SVHN"), ("test_32x32.mat",), ("train_32x32.mat",)),),
    read=read_svhn,
)
