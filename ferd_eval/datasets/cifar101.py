"""CIFAR-10.1: a new test set for CIFAR-10 (Recht et al., "Do CIFAR-10 classifiers generalize to
CIFAR-10?", 2018)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ferd_eval.datasets.cifar import CIFAR10
from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.npy import read_pair
from ferd_eval.errors import UserError


def read_cifar101(
    info: PublicDataset, folder: Path, layout: Layout, split: Split
) -> LabelledImages:
    """Read the pair of npy files; UserError: one is missing, damaged, or not 32 × 32 × 3 uint8."""
    images_file, labels_file = (folder / name for name in layout.files(split))
    images_NCHW, labels_N = read_pair(images_file, labels_file)
    if images_NCHW.shape[1:] != info.image_shape or images_NCHW.dtype != np.uint8:
        raise UserError(
            f"{images_file} holds {images_NCHW.dtype} of shape {images_NCHW.shape} (NCHW), but "
            f"{info.name} has uint8 of 32 × 32 × 3: fetch it again."
        )
    return info.images(images_NCHW, labels_N, folder)


def _layout(version: str) -> Layout:
    files = (f"cifar10.1_{version}_data.npy", f"cifar10.1_{version}_labels.npy")
    return Layout((".", "datasets", "CIFAR-10.1/datasets"), test=files, train=())


CIFAR101 = PublicDataset(
    name="cifar10.1",
    title="CIFAR-10.1 v6, the balanced version that its authors recommend",
    num_classes=10,
    image_shape=(3, 32, 32),
    default_eps=CIFAR10.default_eps,
    licence="no explicit licence; cite Recht et al. (2018)",
    url="https://github.com/modestyachts/CIFAR-10.1",
    cite=("recht2018cifar",),
    layout="cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy",
    class_names=CIFAR10.class_names,
    layouts=(_layout("v6"),),
    read=read_cifar101,
)
CIFAR101_V4 = replace(
    CIFAR101,
    name="cifar10.1-v4",
    title="CIFAR-10.1 v4, the version of its paper",
    cite=("recht2018cifar",),
    layout="cifar10.1_v4_data.npy and cifar10.1_v4_labels.npy",
    layouts=(_layout("v4"),),
)
