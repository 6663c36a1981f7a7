"""Finished pieces of a run: one attack, or one stage of it, on some images.

A shard is written whole or not at all: a run killed at any moment continues after its last finished
shard, and its table ends the same.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.io.files import make_folder, write_atomically, writing_atomically
from ferd_eval.io.json import to_json
from ferd_eval.results.outcomes import COLUMNS

#: Attribute of a written shard: digest of its rows and other attributes.
_DIGEST = "digest"

#: Arrays in a file of adversarial images.
_IMAGE_ARRAYS = {"images", "index", "label", "prediction"}


@dataclass(frozen=True)
class Shard:
    """Some images of the data set under one attack."""

    attack: str  #: its id
    stage: str  #: which attack of a cascade; empty where there is only one
    number: int  #: counts the shards of a stage from 0
    positions: tuple[int, ...]  #: of the images in the data set

    def __len__(self) -> int:
        return len(self.positions)


def split_shards(attack: str, stage: str, positions: Sequence[int], size: int) -> list[Shard]:
    """All shards of a stage, in order."""
    return [
        Shard(attack, stage, number, tuple(positions[start : start + size]))
        for number, start in enumerate(range(0, len(positions), size))
    ]


@dataclass(frozen=True)
class FolderShards:
    """Shards as Parquet files in ``RUN/units/<attack>/<number>.parquet``.

    A cascade has a folder for each stage. Costs (seconds, passes) are attributes of the file, with
    a digest of it all: of single flipped bits Parquet's own checksums miss one in 260.
    """

    folder: Path

    def get(self, shard: Shard, indices: NDArray[np.int64], images: bool) -> pd.DataFrame | None:
        """Rows of a finished shard, of images at these places of their source, else None.

        A torn, altered or foreign file counts as unfinished, and one whose perturbed images are
        missing where `images` are wanted.
        """
        file = self.file(shard, ".parquet")
        try:
            rows = pd.read_parquet(file, page_checksum_verification=True)
        except Exception:  # a damaged header can make pyarrow raise almost anything
            return None
        own = (
            rows.attrs.pop(_DIGEST, None) == _digest(rows)
            and list(rows.columns) == list(COLUMNS)
            and bool((rows["attack"] == shard.attack).all())
            and np.array_equal(rows["index"].unique(), indices)
        )
        return rows if own and (not images or self.has_images(shard)) else None

    def count(self) -> int:
        """How many shards seem to be finished."""
        return sum(1 for _ in self.folder.rglob("*.parquet"))

    def put(
        self, shard: Shard, rows: pd.DataFrame, images_RCHW: NDArray[np.float32] | None
    ) -> None:
        """Keep a shard, its images first: it counts as finished once its rows are there."""
        make_folder(self.file(shard).parent)
        if images_RCHW is not None:
            arrays = {
                "images": images_RCHW,
                "index": rows["index"].to_numpy(),
                "label": rows["label"].to_numpy(),
                "prediction": rows["adv_pred"].to_numpy(),
            }
            write_atomically(self.file(shard, ".npz"), _npz(arrays))
        marked = rows.copy(deep=False)
        marked.attrs = {**rows.attrs, _DIGEST: _digest(rows)}
        content = marked.to_parquet(index=False, write_page_checksum=True)
        write_atomically(self.file(shard, ".parquet"), content)

    def collect_images(
        self, stages: Sequence[Sequence[Shard]], source_N: NDArray[np.int64], file: Path
    ) -> None:
        """Join an attack's adversarial images in an ``.npz``; memory holds one shard of each stage.

        `source_N` is the stage of each row of the outcomes, in the order of the first stage.
        """
        few: dict[str, list[NDArray[Any]]] = {}
        with (
            writing_atomically(file) as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            with archive.open("images.npy", "w", force_zip64=True) as images:
                for number, part in enumerate(self._joined(stages, source_N)):
                    pixels_RCHW = part.pop("images")
                    if number == 0:
                        shape = (len(source_N), *pixels_RCHW.shape[1:])
                        _write_header(images, shape, pixels_RCHW.dtype)
                    images.write(np.ascontiguousarray(pixels_RCHW).data)
                    for key, values in part.items():
                        few.setdefault(key, []).append(values)
            for key, pieces in few.items():
                with archive.open(f"{key}.npy", "w") as column:
                    np.lib.format.write_array(column, np.concatenate(pieces))

    def _joined(
        self, stages: Sequence[Sequence[Shard]], source_N: NDArray[np.int64]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Arrays of the first stage's shards, each row replaced by that of its own stage.

        Shards of every stage are in data-set order, so each is read once.
        """
        later = [self._row_by_row(shards) for shards in stages[1:]]
        begin = 0
        for shard in stages[0]:
            part = _read_npz(self.file(shard, ".npz"))
            source_R = source_N[begin : begin + len(part["index"])]
            for number, rows in enumerate(later, start=1):
                for place in np.flatnonzero(source_R == number).tolist():
                    wanted = int(part["index"][place])
                    row = next(row for row in rows if row["index"] == wanted)
                    for key, value in row.items():
                        part[key][place] = value
            begin += len(source_R)
            yield part

    def _row_by_row(self, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
        for shard in shards:
            part = _read_npz(self.file(shard, ".npz"))
            for row in range(len(part["index"])):
                yield {key: values[row] for key, values in part.items()}

    def discard(self) -> None:
        """Remove the shards once the whole table is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def has_images(self, shard: Shard) -> bool:
        """Whether the adversarial images of a shard are there, whole."""
        try:
            return {*_read_npz(self.file(shard, ".npz"))} == _IMAGE_ARRAYS
        except Exception:  # a damaged archive can raise almost anything
            return False

    def file(self, shard: Shard, suffix: str = ".parquet") -> Path:
        return self.folder / file_name(shard.attack) / shard.stage / f"{shard.number:05d}{suffix}"


def _digest(rows: pd.DataFrame) -> str:
    """Of rows and attributes, however they are stored."""
    columns = {name: str(kind) for name, kind in rows.dtypes.items()}
    found = hashlib.sha256(to_json([columns, rows.attrs]).encode())
    found.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    return found.hexdigest()


def _write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """The head of an ``.npy`` file whose values follow in C order."""
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": shape}
    )


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
