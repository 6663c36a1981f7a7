"""The synthetic images of all epochs, on disk as bytes, only ever appended to.

A folder of four files: ``images.u8`` (N×C×H×W bytes), ``labels.i64`` and ``seen.i64`` (N
little-endian integers each: the class asked for and the one that the teacher sees) and
``bank.json``, which says how many of them count. Images and labels reach the disk before the count
does, so a kill in between leaves bytes that nobody reads and the next append overwrites.
Draws map the file into memory, so a process's memory does not grow with N.
B batch, C channels, H × W pixels, N images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ferd_eval.errors import UserError
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.io.json import parse_json, to_json
from ferd_train.training.process_group import WHOLE, BatchShard

_IMAGES, _INDEX = "images.u8", "bank.json"
_LABEL = np.dtype("<i8")

#: Which class counts as an image's own, and the file of them: the class asked for (paper), or the
#: one that the teacher sees.
LABELS: Mapping[str, str] = {"asked": "labels.i64", "teacher": "seen.i64"}


def to_bytes(x_BCHW: Tensor) -> NDArray[np.uint8]:
    """Pixels in [0, 1] to the nearest of 256 levels: v = round(255 x), read back as v / 255.

    No pixel moves by more than 1/510, a sixteenth of 8/255; truncation would darken by that much
    on average.
    """
    assert bool(((x_BCHW >= 0) & (x_BCHW <= 1)).all()), "pixels outside [0, 1], or not finite"
    return (x_BCHW.detach() * 255).round().to(torch.uint8).cpu().numpy()


class Bank:
    """Images and labels of the epochs so far.

    Attributes:
        image_shape: C, H, W.
        labels: which of an image's two classes it is read with, a name in `LABELS`.
    """

    def __init__(
        self, folder: Path, image_shape: tuple[int, int, int], count: int, labels: str = "asked"
    ) -> None:
        """Call `create` or `open` instead."""
        self.image_shape, self.labels = image_shape, labels
        self._folder = folder
        self._count = count

    @classmethod
    def create(cls, folder: Path, image_shape: tuple[int, int, int], labels: str = "asked") -> Bank:
        """An empty bank; one that lies there is emptied.

        Raises:
            UserError: the folder cannot be written to.
        """
        make_folder(folder)
        bank = cls(folder, image_shape, 0, labels)
        bank._commit()
        return bank

    @classmethod
    def open(cls, folder: Path, count: int, labels: str = "asked") -> Bank:
        """The bank that lies there, with its first `count` images alone.

        The count is that of the training state to continue from, which may be older than the bank.

        Raises:
            UserError: there is none, or it is damaged or too small.
        """
        try:
            index = parse_json((folder / _INDEX).read_text(encoding="utf-8"))
            channels, height, width = (int(side) for side in index["image_shape"])
            recorded = int(index["count"])
            bank = cls(folder, (channels, height, width), count, labels)
            bank._require_present(recorded)
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise UserError(
                f"the synthetic images in {folder} cannot be read ({reason}). Restore the folder, "
                "or start the run again in another with --out."
            ) from reason
        if recorded != count:
            bank._commit()
        return bank

    def __len__(self) -> int:
        return self._count

    def read_labels(self) -> NDArray[np.int64]:
        """Labels of all images, N, in the order they came."""
        if not self._count:
            return np.zeros(0, dtype=np.int64)
        file = self._folder / LABELS[self.labels]
        return np.fromfile(file, _LABEL, self._count).astype(np.int64)

    def append(self, x_BCHW: Tensor, asked_B: Tensor, seen_B: Tensor) -> None:
        """Add images in [0, 1], B×C×H×W, rounded to bytes, with both classes, and commit them.

        Raises:
            UserError: the disk does not take them; those before are kept.
        """
        assert x_BCHW.shape[1:] == self.image_shape, f"images of shape {tuple(x_BCHW.shape[1:])}"
        classes = {"asked": asked_B, "teacher": seen_B}
        for each_B in classes.values():
            assert each_B.shape == (len(x_BCHW),), f"labels of shape {tuple(each_B.shape)}"
        try:
            self._write(_IMAGES, self._image_bytes, to_bytes(x_BCHW).tobytes())
            for whose, each_B in classes.items():
                labels = each_B.cpu().numpy().astype(_LABEL)
                self._write(LABELS[whose], _LABEL.itemsize, labels.tobytes())
        except OSError as reason:
            raise UserError(
                f"cannot write to {self._folder}: {reason.strerror or reason}. Free some space "
                "and run the same command to go on; finished epochs are kept."
            ) from reason
        self._count += len(x_BCHW)
        self._commit()

    def grown(self, count: int) -> Bank:
        """The bank with `count` images more, which another process has appended.

        Raises:
            UserError: they are not to be seen in the folder.
        """
        return Bank.open(self._folder, self._count + count, self.labels)

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        share: BatchShard = WHOLE,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`count` independent uniform draws from all images, with `generator` on the CPU.

        Only a process's `share` of them is read. Returns images B×C×H×W in [0, 1], single
        precision; labels B; places in the bank, B.
        """
        assert self._count > 0, "nothing to draw from"
        place_B = share.own(torch.randint(self._count, (count,), generator=generator))
        bytes_BCHW, labels_B = self.read(place_B.numpy())
        x_BCHW = torch.from_numpy(bytes_BCHW).to(device).float().div_(255)
        return x_BCHW, torch.from_numpy(labels_B).to(device), place_B.to(device)

    def read(self, place_B: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images as bytes, B×C×H×W, and labels, B, of these places; no others are read."""
        if not len(place_B):
            return np.zeros((0, *self.image_shape), np.uint8), np.zeros(0, np.int64)
        shape = (self._count, *self.image_shape)
        images_NCHW = np.memmap(self._folder / _IMAGES, np.uint8, "r", shape=shape)
        file = self._folder / LABELS[self.labels]
        labels_N = np.memmap(file, _LABEL, "r", shape=(self._count,))
        return np.asarray(images_NCHW[place_B]), labels_N[place_B].astype(np.int64)

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self.image_shape))

    def _write(self, name: str, size: int, content: bytes) -> None:
        """Put `content` after the entries that count, each of `size` bytes, and onto the disk."""
        file = self._folder / name
        file.touch()
        with file.open("r+b") as stream:
            stream.seek(self._count * size)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def _commit(self) -> None:
        index = {"image_shape": self.image_shape, "count": self._count}
        write_atomically(self._folder / _INDEX, to_json(index).encode())

    def _require_present(self, recorded: int) -> None:
        if self._count > recorded:
            raise ValueError(f"{recorded} images are there, {self._count} are expected")
        sizes = {_IMAGES: self._image_bytes, **dict.fromkeys(LABELS.values(), _LABEL.itemsize)}
        for name, size in sizes.items() if self._count else ():
            have, need = (self._folder / name).stat().st_size, self._count * size
            if have < need:
                raise ValueError(f"{name} has {have} bytes, {need} are expected")
