"""Finished pieces of a run: one attack on one fixed range of images.

A unit is written whole or not at all, so a run killed at any moment continues from its last
finished unit, and the table it ends with is the same.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.outcomes import COLUMNS
from ferd_eval.output import write_atomically


@dataclass(frozen=True)
class Unit:
    """Images ``[start, stop)`` of the data set under one attack."""

    attack: str
    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def split_units(attacks: tuple[str, ...], images: int, size: int) -> list[Unit]:
    """All units of a run, attack by attack, in order."""
    return [
        Unit(attack, number, start, min(start + size, images))
        for attack in attacks
        for number, start in enumerate(range(0, images, size))
    ]


class UnitStore(Protocol):
    """Keeps finished units."""

    def get(self, unit: Unit) -> pd.DataFrame | None:
        """Rows of a finished unit, None if it is not finished."""

    def put(self, unit: Unit, rows: pd.DataFrame, images_RCHW: NDArray[np.float32] | None) -> None:
        """Keep a finished unit and, where wanted, its adversarial images."""


@dataclass
class MemoryUnits:
    """Units of a run that is not written anywhere."""

    frames: dict[Unit, pd.DataFrame] = field(default_factory=dict)

    def get(self, unit: Unit) -> pd.DataFrame | None:
        """Rows of a finished unit."""
        return self.frames.get(unit)

    def put(self, unit: Unit, rows: pd.DataFrame, images_RCHW: NDArray[np.float32] | None) -> None:
        """Keep the rows; images are not kept in memory."""
        self.frames[unit] = rows


@dataclass(frozen=True)
class FolderUnits:
    """Units as Parquet files in ``RUN/units/<attack>/<number>.parquet``.

    What a unit cost (seconds, passes) travels in the file's attributes.
    """

    folder: Path

    def get(self, unit: Unit) -> pd.DataFrame | None:
        """Rows of a finished unit; a torn, altered or foreign file counts as unfinished."""
        file = self.file(unit, ".parquet")
        try:
            rows = pd.read_parquet(file, page_checksum_verification=True)
        except Exception:  # a damaged header can make pyarrow raise almost anything
            return None
        own = (
            list(rows.columns) == list(COLUMNS)
            and bool((rows["attack"] == unit.attack).all())
            and rows["index"].nunique() == len(unit)
        )
        return rows if own else None

    def put(self, unit: Unit, rows: pd.DataFrame, images_RCHW: NDArray[np.float32] | None) -> None:
        """Write the images first: a unit counts as finished once its rows are there."""
        if images_RCHW is not None:
            arrays = {
                "images": images_RCHW,
                "index": rows["index"].to_numpy(),
                "label": rows["label"].to_numpy(),
                "prediction": rows["adv_pred"].to_numpy(),
            }
            write_atomically(self.file(unit, ".npz"), _npz(arrays))
        content = rows.to_parquet(index=False, write_page_checksum=True)
        write_atomically(self.file(unit, ".parquet"), content)

    def collect_images(self, units: list[Unit], folder: Path) -> None:
        """Join the adversarial images of each attack into ``FOLDER/<attack>.npz``."""
        for attack in dict.fromkeys(unit.attack for unit in units):
            files = [self.file(unit, ".npz") for unit in units if unit.attack == attack]
            parts = [_read_npz(file) for file in files]
            whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            write_atomically(folder / f"{file_name(attack)}.npz", _npz(whole))

    def discard(self) -> None:
        """Remove the units once the whole table is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def has_images(self, unit: Unit) -> bool:
        """Whether the adversarial images of a unit are there, whole."""
        try:
            return bool(_read_npz(self.file(unit, ".npz")))
        except Exception:  # a damaged archive can raise almost anything
            return False

    def file(self, unit: Unit, suffix: str = ".parquet") -> Path:
        """Where a unit is, or will be."""
        return self.folder / file_name(unit.attack) / f"{unit.number:05d}{suffix}"


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _read_npz(file: Path) -> dict[str, NDArray[Any]]:
    with np.load(file) as arrays:
        return dict(arrays)


def file_name(attack: str) -> str:
    """An attack's id as a file name: ``pgd@2/255`` → ``pgd@2_255``."""
    return attack.replace("/", "_").replace(":", "-")
