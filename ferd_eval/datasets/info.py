"""Facts of a data set, declared before it is read: layouts, archives and reader included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.pixel_buffer import Pixels

Split = Literal["test", "train"]


@dataclass(frozen=True)
class Layout:
    """One published arrangement of a data set's files."""

    subfolders: tuple[str, ...]  #: below the data folder, likeliest first; ``"."`` is itself
    #: The test files, as glob patterns relative to the subfolder. A pattern that ends in a slash is
    #: of folders; files may have ``.gz`` added.
    test: tuple[str, ...]
    train: tuple[str, ...]  #: the same for the training files

    def files(self, split: Split) -> tuple[str, ...]:
        return self.test if split == "test" else self.train

    def holds(self, folder: Path, split: Split) -> bool:
        for pattern in self.files(split):
            if pattern.endswith("/"):
                found = any(path.is_dir() for path in folder.glob(pattern))
            else:
                names = (pattern, f"{pattern}.gz")
                found = any(path.is_file() for name in names for path in folder.glob(name))
            if found:
                return True
        return False


@dataclass(frozen=True)
class DatasetInfo:
    """The facts of one data set, as ``ferd-eval ls datasets`` shows them."""

    name: str  #: as ``--dataset`` takes it; a user's own set is followed by ``:PATH``
    title: str  #: its name in prose
    num_classes: int | None  #: K, or ``None`` where the files decide
    image_shape: tuple[int, int, int] | None  #: channels, height, width; ``None`` as above
    default_eps: Fraction  #: the customary L∞ radius, for pixels in [0, 1]
    licence: str  #: under which terms it is published
    url: str  #: where to get it; empty for the user's own files
    layout: str  #: which files are looked for
    downloader: str = ""  #: ``torchvision.datasets``' class behind ``--download``; empty if none
    #: Whether that class takes ``split="test"`` in place of ``train=False``.
    download_by_split: bool = False
    class_names: tuple[str, ...] = ()  #: K names in label order; empty where the files decide
    #: Built-in groups of classes: grouping name → K group names, one per class.
    groupings: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    cite: tuple[str, ...] = ()  #: keys in ``ferd_eval/report/references.bib``


@dataclass(frozen=True, kw_only=True)
class PublicDataset(DatasetInfo):
    """A published set, found below the data folder."""

    layouts: tuple[Layout, ...]  #: arrangements of its files, likeliest first
    archives: tuple[str, ...] = ()  #: file names of the set before unpacking
    #: Reads a split from the folder that holds its files.
    read: Callable[[PublicDataset, Path, Layout, Split], LabelledImages]

    def images(
        self, images_NCHW: Pixels, labels_N: NDArray[np.int64], folder: Path, note: str = ""
    ) -> LabelledImages:
        """Images read from a folder, numbered in the order of its files."""
        return LabelledImages(
            name=self.name,
            images_NCHW=images_NCHW,
            labels_N=labels_N,
            class_names=self.class_names,
            indices_N=np.arange(len(labels_N), dtype=np.int64),
            source=str(folder),
            groupings=self.groupings,
            note=note,
        )


@dataclass(frozen=True, kw_only=True)
class OwnDataset(DatasetInfo):
    """A user's own set, named with its path: ``name:PATH``."""

    num_classes: int | None = None
    image_shape: tuple[int, int, int] | None = None
    default_eps: Fraction = Fraction(8, 255)
    licence: str = "yours"
    url: str = ""
    read: Callable[[Path, Split, ClassOrder], LabelledImages]


@dataclass(frozen=True, kw_only=True)
class PackagedDataset(DatasetInfo):
    """A set inside this package."""

    read: Callable[[Split], LabelledImages]
