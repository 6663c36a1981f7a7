"""CIFAR-10-C, CIFAR-100-C and ImageNet-C: test images under common corruptions in five severities.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ferd_eval.datasets.cifar import CIFAR10, CIFAR100
from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.image_folder import read_image_folder
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.stored_array import StoredArray
from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.npy import map_npy

#: The fifteen corruptions of the benchmark, in the paper's order.
BENCHMARK = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Cell:
    """One corruption in one severity: a data set of its own."""

    corruption: str
    severity: int

    @property
    def place(self) -> str:
        """Below the folder of the set, as ``--dataset`` takes it."""
        return f"{self.corruption}/{self.severity}"

    def __str__(self) -> str:
        return f"{self.corruption}-{self.severity}"


@dataclass(frozen=True, kw_only=True)
class CorruptedDataset(OwnDataset):
    """A set in many corruptions; ``name:DIR/CORRUPTION/SEVERITY`` is one of them."""

    #: Every cell in a folder, in the paper's order; UserError where it has none.
    cells: Callable[[Path], tuple[Cell, ...]]


def _as_in_the_paper(cells: list[Cell]) -> tuple[Cell, ...]:
    """The benchmark's corruptions in its order, then the others by name."""
    order = {name: k for k, name in enumerate(BENCHMARK)}
    return tuple(
        sorted(
            cells, key=lambda at: (order.get(at.corruption, len(order)), at.corruption, at.severity)
        )
    )


def _no_cells(folder: Path, name: str, layout: str) -> UserError:
    state = "holds no corruption" if folder.is_dir() else "is no folder"
    return UserError(f"{folder} {state}; give --dataset {name}:DIR a folder of {layout}.")


def _cell(path: Path, split: Split, info: CorruptedDataset) -> Cell:
    """The one that a path names; UserError where it names none, or one that is not there."""
    if split == "train":
        raise UserError(f"{info.name} has test images only; train on the set without corruption.")
    folder, corruption, severity = path.parent.parent, path.parent.name, path.name
    if severity not in map(str, SEVERITIES):
        raise UserError(
            f"{info.name}:{path} names no severity; give {info.name}:DIR/CORRUPTION/SEVERITY with "
            "a severity from 1 to 5, such as DIR/fog/3. All of them at once: ferd-eval corruptions."
        )
    cell = Cell(corruption, int(severity))
    here = info.cells(folder)
    if cell not in here:
        names = dict.fromkeys(each.corruption for each in here)
        said = (
            f"severity {severity} of {corruption}. Choose another of 1 to 5."
            if corruption in names
            else f"corruption {corruption!r}.{did_you_mean(corruption, names)}"
        )
        raise UserError(f"{folder} has no {said}")
    return cell


_LABELS = "labels.npy"


def _cifar_cells(name: str) -> Callable[[Path], tuple[Cell, ...]]:
    def cells(folder: Path) -> tuple[Cell, ...]:
        files = sorted(folder.glob("*.npy")) if (folder / _LABELS).is_file() else []
        names = [file.stem for file in files if file.name != _LABELS]
        if not names:
            raise _no_cells(folder, name, f"CORRUPTION.npy files and {_LABELS}")
        return _as_in_the_paper([Cell(each, s) for each in names for s in SEVERITIES])

    return cells


def _read_cifar_c(info: CorruptedDataset, path: Path, split: Split) -> LabelledImages:
    """A fifth of ``DIR/CORRUPTION.npy``, 5·N × 32 × 32 × 3 with severity 1 first; only that is
    read. ``labels.npy`` repeats the N labels five times.

    UserError: there is no such cell, or a file is damaged or of another set.
    """
    cell = _cell(path, split, info)
    folder = path.parent.parent
    pixels_file, labels_file = folder / f"{cell.corruption}.npy", folder / _LABELS
    pixels = map_npy(pixels_file)
    labels_M = StoredArray.of(map_npy(labels_file), str(labels_file)).labels()
    count, left = divmod(len(labels_M), len(SEVERITIES))
    if left or not count or pixels.shape != (len(labels_M), 32, 32, 3) or pixels.dtype != np.uint8:
        raise UserError(
            f"{pixels_file} holds {pixels.dtype} of shape {pixels.shape} and {labels_file} "
            f"{len(labels_M)} labels, but {info.name} has uint8 of (5·N, 32, 32, 3) and 5·N labels "
            "(N = 10000 as published); unpack the archive again."
        )
    labels_SN = labels_M.reshape(len(SEVERITIES), count)
    assert info.num_classes is not None
    if (labels_SN != labels_SN[0]).any() or labels_SN.max() >= info.num_classes:
        raise UserError(
            f"{labels_file} does not repeat labels from 0 to {info.num_classes - 1} once a "
            f"severity (the largest is {labels_SN.max()}): it is damaged or of another data set."
        )
    rows = slice((cell.severity - 1) * count, cell.severity * count)
    return LabelledImages(
        name=f"{info.name}:{cell}",
        images_NCHW=np.ascontiguousarray(pixels[rows].transpose(0, 3, 1, 2)),
        labels_N=labels_SN[0],
        class_names=info.class_names,
        # Of the image without corruption: it is the same one in every cell.
        indices_N=np.arange(count, dtype=np.int64),
        source=str(path),
        groupings=info.groupings,
    )


def _imagenet_cells(folder: Path) -> tuple[Cell, ...]:
    cells = [
        Cell(place.parent.name, int(place.name))
        for severity in SEVERITIES
        for place in folder.glob(f"*/{severity}")
        if place.is_dir()
    ]
    if not cells:
        raise _no_cells(folder, "imagenet-c", "CORRUPTION/SEVERITY/CLASS/ folders of images")
    return _as_in_the_paper(cells)


def _read_imagenet_c(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """``DIR/CORRUPTION/SEVERITY/CLASS/**``, read as `read_image_folder` does."""
    cell = _cell(path, split, IMAGENET_C)
    return replace(read_image_folder(path, split, order), name=f"imagenet-c:{cell}")


CIFAR10_C: CorruptedDataset = CorruptedDataset(
    name="cifar10-c",
    title="CIFAR-10-C, one corruption and severity",
    num_classes=10,
    image_shape=(3, 32, 32),
    licence="CC BY 4.0",
    url="https://zenodo.org/records/2535967",
    cite=("hendrycks2019benchmarking",),
    layout="cifar10-c:DIR/CORRUPTION/SEVERITY with DIR/CORRUPTION.npy and DIR/labels.npy",
    class_names=CIFAR10.class_names,
    cells=_cifar_cells("cifar10-c"),
    read=lambda path, split, _: _read_cifar_c(CIFAR10_C, path, split),
)
CIFAR100_C: CorruptedDataset = replace(
    CIFAR10_C,
    name="cifar100-c",
    title="CIFAR-100-C, one corruption and severity",
    num_classes=100,
    url="https://zenodo.org/records/3555552",
    cite=("hendrycks2019benchmarking",),
    layout="cifar100-c:DIR/CORRUPTION/SEVERITY with DIR/CORRUPTION.npy and DIR/labels.npy",
    class_names=CIFAR100.class_names,
    groupings=CIFAR100.groupings,
    cells=_cifar_cells("cifar100-c"),
    read=lambda path, split, _: _read_cifar_c(CIFAR100_C, path, split),
)
IMAGENET_C = CorruptedDataset(
    name="imagenet-c",
    title="ImageNet-C and sets laid out like it, one corruption and severity",
    licence="CC BY 4.0",
    url="https://zenodo.org/records/2235448",
    cite=("hendrycks2019benchmarking",),
    layout="imagenet-c:DIR/CORRUPTION/SEVERITY with a folder of images a class in it",
    cells=_imagenet_cells,
    read=_read_imagenet_c,
)
