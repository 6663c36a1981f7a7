"""STL-10 in its binary layout (Coates et al., 2011)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import existing, read_whole

_SIDE = 96
_PIXELS = 3 * _SIDE * _SIDE
# The published splits hold at most 8000 labelled images.
_MAX_RECORDS = 20_000
_FILE = "labelled file of stl10"


def read_stl10(info: PublicDataset, folder: Path, layout: Layout, split: Split) -> LabelledImages:
    """Read pixels, column by column in each channel, and labels from 1.

    UserError: a file is missing, cut short, or of another set.
    """
    found = [existing(folder / name) for name in layout.files(split)]
    for name, path in zip(layout.files(split), found, strict=True):
        if path is None:
            raise UserError(f"{folder} lacks {name}, one of stl10's two files; unpack it again.")
    pixels_file, labels_file = (path for path in found if path is not None)
    labels = read_whole(labels_file, _MAX_RECORDS, _FILE)
    pixels = read_whole(pixels_file, _MAX_RECORDS * _PIXELS, _FILE)
    if not len(labels) or len(pixels) != len(labels) * _PIXELS:
        raise UserError(
            f"{pixels_file} has {len(pixels)} bytes, but {len(labels)} images of 3×96×96 take "
            f"{len(labels) * _PIXELS}; unpack the archive again."
        )
    labels_N = np.frombuffer(labels, np.uint8).astype(np.int64) - 1
    wrong = np.flatnonzero((labels_N < 0) | (labels_N > 9))
    if len(wrong):
        raise UserError(
            f"{labels_file} has label {labels_N[wrong[0]] + 1} in record {wrong[0]}, but stl10 has "
            "1 to 10: the file is damaged or of another data set."
        )
    pixels_NCWH = np.frombuffer(pixels, np.uint8).reshape(-1, 3, _SIDE, _SIDE)
    return info.images(np.ascontiguousarray(pixels_NCWH.swapaxes(2, 3)), labels_N, folder)


STL10 = PublicDataset(
    name="stl10",
    title="STL-10",
    num_classes=10,
    image_shape=(3, _SIDE, _SIDE),
    default_eps=Fraction(8, 255),
    licence="no explicit licence; cite Coates et al. (2011)",
    url="https://cs.stanford.edu/~acoates/stl10/",
    cite=("coates2011analysis",),
    layout="stl10_binary/test_X.bin and test_y.bin",
    downloader="STL10",
    download_by_split=True,
    class_names=(
        "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
    ),
    layouts=(
        Layout(
            ("stl10_binary", "."), ("test_X.bin", "test_y.bin"), ("train_X.bin", "train_y.bin")
        ),
    ),
    archives=("stl10_binary.tar.gz",),
    read=read_stl10,
)  # fmt: skip
