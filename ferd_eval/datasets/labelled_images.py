"""Images with their labels, as the rest of the toolkit sees every data set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.pixel_buffer import rows_of
from ferd_eval.errors import UserError, require_kind
from ferd_eval.io.json import is_text

#: Arrays of a set, and the types of numbers they may hold.
_ARRAYS = {"images_NCHW": ("uint8", "float32"), "labels_N": ("int64",), "indices_N": ("int64",)}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """An image classification set; pixels of a large one may lie in a mapped file."""

    name: str  #: name in reports, e.g. ``"cifar10"``
    #: Pixels: ``uint8``, or ``float32`` in [0, 1] where the source is not 8-bit.
    images_NCHW: NDArray[np.uint8] | NDArray[np.float32]
    labels_N: NDArray[np.int64]  #: class index of each image, ``int64`` in ``[0, K)``
    class_names: tuple[str, ...]  #: K display names, in label order
    #: Position of each image in the source, in file order. Random numbers are keyed by it, so an
    #: image meets the same attack whichever subset it is scored in.
    indices_N: NDArray[np.int64]
    source: str  #: where the images were read from (a path, or ``"package"``)
    #: Built-in groups of classes: grouping name → K group names, one per class.
    groupings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""  #: a remark on the images that every report shows; may be empty
    default_eps: Fraction = Fraction(8, 255)  #: the customary L∞ radius, for pixels in [0, 1]
    selection: str = "all"  #: which of the source's images these are, in words
    class_order: str = ""  #: source of the classes' order; empty where the data set fixes it
    cautions: tuple[str, ...] = ()  #: warnings that concern every figure: shown and recorded

    def __post_init__(self) -> None:
        for name, kinds in _ARRAYS.items():
            _require_array(name, getattr(self, name), kinds)
        n = len(self.labels_N)
        if not len(self.images_NCHW) == n == len(self.indices_N):
            raise UserError(
                f"data set {self.name} has {len(self.images_NCHW)} images, {n} labels and "
                f"{len(self.indices_N)} indices: give each image one of each."
            )
        if n == 0:
            raise UserError(f"data set {self.name} at {self.source} holds no images: give it some.")
        low, high = int(self.labels_N.min()), int(self.labels_N.max())
        if low < 0 or high >= len(self.class_names):
            way_out = (
                "number the classes from 0 (labels - 1)"
                if low == 1 and high == len(self.class_names)
                else "name every class (class_names, --classes), or correct the labels"
            )
            raise UserError(
                f"data set {self.name} at {self.source} has labels from {low} to {high}, "
                f"but {len(self.class_names)} classes (0 to {len(self.class_names) - 1}): "
                f"{way_out}."
            )
        odd = [each for each in (self.source, *self.class_names) if not is_text(each)]
        if odd:
            raise UserError(
                f"data set {self.name} at {self.source} has the name {odd[0]!r}, which is no text "
                "in UTF-8: rename it."
            )
        twice = [name for name, count in Counter(self.class_names).items() if count > 1]
        if twice:
            raise UserError(
                f"data set {self.name} at {self.source} has {len(twice)} class names more than "
                f"once, first {twice[0]!r}: give each class its own name."
            )
        for grouping, groups in self.groupings.items():
            assert len(groups) == len(self.class_names), grouping

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def num_classes(self) -> int:
        """K, the number of classes, whether or not each has an image."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Number of images of each of the K classes."""
        return np.bincount(self.labels_N, minlength=self.num_classes).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, type, pixels, labels and source positions."""
        digest = hashlib.sha256()
        digest.update(f"{self.images_NCHW.dtype}{self.images_NCHW.shape}".encode())
        for array in (self.images_NCHW, self.labels_N, self.indices_N):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the manifest and the reports say of the images."""
        return {
            "name": self.name,
            "source": self.source,
            "n": len(self),
            "selection": self.selection,
            "fingerprint": self.fingerprint,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            **({"class_order": self.class_order} if self.class_order else {}),
            "class_counts": self.class_counts.tolist(),
            "groupings": {name: list(groups) for name, groups in self.groupings.items()},
            "note": self.note,
        }

    def first(self, count: int) -> LabelledImages:
        """Keep the first ``count`` records in file order.

        Raises:
            UserError: ``count`` is not positive.
        """
        _require_positive(count)
        return self._take(np.arange(min(count, len(self))), f"first {count}")

    def first_per_class(self, count: int) -> LabelledImages:
        """Keep the first ``count`` records of each class, in file order.

        Raises:
            UserError: ``count`` is not positive.
        """
        _require_positive(count)
        keep = np.zeros(len(self), dtype=bool)
        for label in range(self.num_classes):
            keep[np.flatnonzero(self.labels_N == label)[:count]] = True
        return self._take(np.flatnonzero(keep), f"first {count} per class")

    def _take(self, positions: NDArray[np.int64], selection: str) -> LabelledImages:
        before = "" if self.selection == "all" else f" of the {self.selection}"
        return replace(
            self,
            selection=selection + before,
            images_NCHW=rows_of(self.images_NCHW, positions),
            labels_N=self.labels_N[positions],
            indices_N=self.indices_N[positions],
        )


def _require_array(name: str, array: NDArray[Any], kinds: tuple[str, ...]) -> None:
    """As many dimensions as the name has letters after its underscore."""
    letters = name.partition("_")[2]
    wanted = f"a numpy array {'×'.join(letters)} of {' or '.join(kinds)}"
    require_kind(array, np.ndarray, name, wanted)
    if array.ndim != len(letters) or array.dtype.name not in kinds:
        raise UserError(f"{name} is {array.dtype} of shape {array.shape}; give {wanted}.")


def _require_positive(count: int) -> None:
    if count < 1:
        raise UserError(f"cannot keep the first {count} images: give a count of 1 or more.")
