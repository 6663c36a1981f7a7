"""Facts of a data set, declared before it is read: layouts, archives and reader included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.labelled_images import LabelledImages

Split = Literal["test", "train"]


@dataclass(frozen=True)
class Layout:
    """One published arrangement of a data set's files.

    Attributes:
        subfolders: where below the data folder they may lie, likeliest first; ``"."`` is itself.
        test: the test files, as glob patterns relative to the subfolder. A pattern that ends in a
            slash is of folders; files may have ``.gz`` added.
        train: the same for the training files.
    """

    subfolders: tuple[str, ...]
    test: tuple[str, ...]
    train: tuple[str, ...]

    def files(self, split: Split) -> tuple[str, ...]:
        """The patterns of one split."""
        return self.test if split == "test" else self.train

    def holds(self, folder: Path, split: Split) -> bool:
        """Whether any file of the split is in ``folder``."""
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
    """The facts of one data set, as ``ferd-eval ls datasets`` shows them.

    Attributes:
        name: what ``--dataset`` takes; ``folder`` and ``npz`` are followed by ``:PATH``.
        title: its name in prose.
        num_classes: K, or ``None`` where the files decide.
        image_shape: channels, height, width, or ``None`` where the files decide.
        default_eps: the customary L∞ radius, for pixels in [0, 1].
        licence: under which terms it is published.
        url: where to get it; empty for the user's own files.
        layout: which files are looked for.
        downloader: the class of ``torchvision.datasets`` behind ``--download``; empty if none.
        class_names: K display names, in label order; empty where the files decide.
        groupings: built-in groups of classes: grouping name → K group names, one per class.
    """

    name: str
    title: str
    num_classes: int | None
    image_shape: tuple[int, int, int] | None
    default_eps: Fraction
    licence: str
    url: str
    layout: str
    downloader: str = ""
    class_names: tuple[str, ...] = ()
    groupings: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class PublicDataset(DatasetInfo):
    """A published set, found below the data folder.

    Attributes:
        layouts: arrangements of its files, likeliest first.
        archives: file names of the set before unpacking.
        read: reads a split from the folder that holds its files.
    """

    layouts: tuple[Layout, ...]
    archives: tuple[str, ...] = ()
    read: Callable[[PublicDataset, Path, Layout, Split], LabelledImages]


@dataclass(frozen=True, kw_only=True)
class OwnDataset(DatasetInfo):
    """A user's own set, named with its path: ``name:PATH``."""

    read: Callable[[Path, Split, ClassOrder], LabelledImages]


@dataclass(frozen=True, kw_only=True)
class PackagedDataset(DatasetInfo):
    """A set inside this package."""

    read: Callable[[Split], LabelledImages]
