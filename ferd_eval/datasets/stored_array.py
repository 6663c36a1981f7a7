"""Arrays in a user's files that are to be images or labels. N images, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.pixel_buffer import Pixels, room_for
from ferd_eval.errors import UserError

#: Where no names are given there are as many classes as the largest label says.
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class StoredArray:
    """An array whose shape and type are known before it is read."""

    where: str  #: file and key, for messages
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any], where: str) -> StoredArray:
        """An array that lies in a mapped file."""
        return cls(where, array.shape, array.dtype, lambda: array)

    def labels(self) -> NDArray[np.int64]:
        """N class numbers, of an array N or N×1; UserError where they cannot be that."""
        if len(self.shape) == 2 and self.shape[1] > 1:
            raise UserError(
                f"{self.where} has shape {self.shape}, which looks one-hot; save class numbers "
                "instead: argmax(1) of it. Where an image may have several classes at once there "
                "is no such number."
            )
        if len(self.shape) not in (1, 2):
            raise UserError(f"{self.where} has shape {self.shape}; save one class number an image.")
        if self.dtype.kind not in "iu":
            raise UserError(
                f"{self.where} has type {self.dtype}; save class numbers as integers from 0 to K-1."
            )
        labels_N = self.read().reshape(-1)
        if len(labels_N) and int(labels_N.min()) < 0:
            raise UserError(
                f"{self.where} has label {labels_N.min()}; classes are numbered from 0."
            )
        if len(labels_N) and int(labels_N.max()) >= MAX_CLASSES:
            raise UserError(
                f"{self.where} has label {labels_N.max()}; number the classes 0, 1, 2 and so on "
                f"(at most {MAX_CLASSES})."
            )
        return labels_N.astype(np.int64)

    def images(self) -> Pixels:
        """Pixels as NCHW, of an array NHWC, NCHW or NHW; UserError where they cannot be that."""
        channels_first = self._channels_first()
        if self.dtype.kind not in "uf" or (self.dtype.kind == "u" and self.dtype.itemsize > 1):
            raise UserError(
                f"{self.where} has type {self.dtype}; save uint8, or float32 between 0 and 1."
            )
        pixels = self.read()
        if pixels.dtype.kind == "f":
            require_unit_range(pixels, self.where)
            pixels = pixels.astype(np.float32)
        if pixels.ndim == 3:
            pixels = pixels[:, np.newaxis]
        elif not channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        if pixels.dtype != np.uint8 or pixels.flags.c_contiguous:
            return np.ascontiguousarray(pixels)
        images_NCHW = room_for(pixels.shape, f"the images of {self.where}")
        images_NCHW[:] = pixels
        return images_NCHW

    def _channels_first(self) -> bool:
        """Whether axis 1 is the channels; they are 1 or 3 in number."""
        shape = self.shape
        if len(shape) == 3:
            return True
        known = (shape[1] in (1, 3), shape[3] in (1, 3)) if len(shape) == 4 else (False, False)
        first, last = known
        if not first and not last:
            raise UserError(
                f"{self.where} has shape {shape}; save (N, H, W, C), (N, C, H, W) or (N, H, W) "
                "with 1 or 3 channels."
            )
        if first and last and shape[1] != shape[3]:
            raise UserError(
                f"{self.where} has shape {shape}, which may be NHWC or NCHW; save wider images."
            )
        return first


def require_unit_range(pixels: NDArray[Any], where: str) -> None:
    """UserError unless all pixels are in [0, 1]."""
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


def named_by(order: ClassOrder, labels_N: NDArray[np.int64]) -> tuple[str, ...]:
    """Classes as the user lists them, else called by their numbers."""
    if listed := order.of_numbers():
        return listed
    return tuple(str(label) for label in range(int(labels_N.max(initial=-1)) + 1))


def agreed_names(order: ClassOrder, stored: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Classes as the user lists them, else as the file names them.

    UserError: the list has the file's names in another order.
    """
    listed = order.of_numbers()
    if listed != stored and sorted(listed) == sorted(stored):
        k = next(k for k, name in enumerate(stored) if name != listed[k])
        raise UserError(
            f"class {k} is {listed[k]!r} in {order.source}, but {stored[k]!r} in class_names of "
            f"{where}. Leave the list out, or correct it."
        )
    return listed or stored
