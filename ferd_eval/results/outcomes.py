"""The per-sample table every figure is computed from: the one source of truth.

One row per (attack, sample), or per (attack, sample, target) for targeted attacks. Needs no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ferd_eval.errors import UserError, message_of, require_kind
from ferd_eval.io.files import file_sha256, make_folder, write_atomically
from ferd_eval.io.json import parse_json, with_checksum, without_checksum
from ferd_eval.results.schema import require_record

#: File name of the table in a run's folder.
OUTCOMES = "outcomes.parquet"

#: File name of the digests of the folder's files (`ferd_eval.results.digests`).
SUMS = "SHA256SUMS"

#: Entry of a written manifest: SHA-256 of ``outcomes.parquet``.
_DIGEST = "outcomes_sha256"

#: What an attack may be called: its id stands in tables, file names and command lines.
ATTACK_ID = re.compile(r"\w[\w@:./+-]*")

#: Column → pandas type. `Int32` is nullable: `target` and `stage` are empty where there is none.
COLUMNS: Mapping[str, str] = {
    "index": "int64",  # position of the image in its data set
    "label": "int32",
    "attack": "string",  # e.g. "pgd", "pgd:rslad", "pgd@2/255"
    "target": "Int32",  # class aimed at, null for untargeted attacks
    "clean_pred": "int32",
    "adv_pred": "int32",  # equals clean_pred on clean rows
    "correct": "bool",  # adv_pred == label
    "margin": "float32",  # z_label − max of the other logits, on the adversarial image
    "confidence": "float32",  # softmax probability of adv_pred
    "stage": "string",  # search that broke the image, null where there is none to tell
    "steps": "int32",  # gradient steps (or queries) spent on the image, over all targets
    "linf": "float32",  # ‖x_adv − x‖∞ in [0, 1]
}


#: Rows, and bytes once inflated, that one byte of a file may stand for. Real runs have less than
#: one row a byte: images have numbers of their own.
_MOST_ROWS, _MOST_INFLATED = 10, 100


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What happened to each image under each attack, with the record of how it came about."""

    #: One row per (attack, sample[, target]); columns and types as in `COLUMNS`.
    table: pd.DataFrame
    #: The run's JSON record; metrics read ``manifest["dataset"]["class_names"]``,
    #: ``manifest["dataset"]["name"]`` and ``manifest["attacks"]`` (id → constants).
    manifest: Mapping[str, Any]

    def __post_init__(self) -> None:
        require_kind(self.table, pd.DataFrame, "the table", "a DataFrame, or Outcomes.load(DIR)")
        require_kind(self.manifest, Mapping, "the manifest", "a dict")

    def __repr__(self) -> str:
        data = self.manifest.get("dataset") or {}
        who = (self.manifest.get("checkpoint") or {}).get("name") or "a network"
        attacks = ", ".join(map(str, self.manifest.get("attacks") or ()))
        where = data.get("name") or "imported images"
        return f"Outcomes({who} on {where}, {self.table['index'].nunique()} images: {attacks})"

    @property
    def attacks(self) -> tuple[str, ...]:
        """Attack ids in the order in which they were run."""
        return tuple(self.manifest["attacks"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Display names of the K classes, in label order."""
        return tuple(self.manifest["dataset"]["class_names"])

    def of(self, attack: str) -> pd.DataFrame:
        """Rows of one attack."""
        return self.table[self.table["attack"] == attack]

    def save(self, folder: Path | str) -> None:
        """Write ``outcomes.parquet`` and ``manifest.json`` atomically, the manifest last.

        The manifest keeps the table's digest, and one of itself.
        """
        folder = Path(folder)
        make_folder(folder)
        (folder / SUMS).unlink(missing_ok=True)  # those of other outcomes
        content = self.table.to_parquet(index=False)
        write_atomically(folder / OUTCOMES, content)
        record = {**self.manifest, _DIGEST: hashlib.sha256(content).hexdigest()}
        write_atomically(folder / "manifest.json", with_checksum(record))

    @classmethod
    def load(cls, folder: Path | str) -> Outcomes:
        """Read a finished run's folder.

        Raises:
            UserError: there is none, or it is not as it was written.
        """
        folder = Path(folder)
        table_file, manifest_file = folder / OUTCOMES, folder / "manifest.json"
        for file in (table_file, manifest_file):
            if not file.is_file():
                raise UserError(
                    f"{folder} holds no finished run: {file.name} is missing. "
                    "Score a checkpoint into it first, or give the folder of one checkpoint."
                )
        with _reading(manifest_file):
            said = parse_json(manifest_file.read_text(encoding="utf-8"))
        manifest = without_checksum(said, manifest_file)
        require_record(manifest, str(manifest_file))
        digest = manifest.pop(_DIGEST, None)
        with _reading(table_file):
            if digest not in (None, file_sha256(table_file)):
                raise ValueError(f"{table_file.name} is not the one its manifest was written with")
            table = conform(_read_table(table_file))
        return cls(table, manifest)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file, whatever its parser trips over."""
    try:
        yield
    except UserError as reason:
        raise UserError(f"{file}: {reason}") from reason
    except Exception as reason:
        said = message_of(reason, 300)
        raise UserError(
            f"{file.parent} cannot be read as a run: {said}. "
            "Remove the folder and score the checkpoint again."
        ) from reason


def read_table(file: Path) -> pd.DataFrame:
    """An ``outcomes.parquet`` by itself, without its record; UserError where it is none."""
    try:
        return conform(_read_table(file))
    except Exception as reason:  # a damaged file can make the parser raise almost anything
        said = message_of(reason, 300)
        raise UserError(
            f"{file} cannot be read as outcomes of a run: {said.removesuffix('.')}. Copy it again, "
            "or save predictions as CSV: index, label, pred, attack."
        ) from reason


def _read_table(file: Path) -> pd.DataFrame:
    """The known columns of a parquet file, once it is sure that they fit into memory."""
    with pq.ParquetFile(file) as parquet:
        _require_columns(parquet.schema_arrow.names)
        content = parquet.metadata
        groups = [content.row_group(i) for i in range(content.num_row_groups)]
        rows = max(content.num_rows, sum(group.num_rows for group in groups))
        claimed = sum(group.total_byte_size for group in groups)
        size = file.stat().st_size
        if rows > _MOST_ROWS * max(size, 10_000) or claimed > _MOST_INFLATED * size:
            raise UserError(
                f"it claims {rows} rows of {claimed} bytes in a file of {size} bytes, so it is "
                "damaged or hostile; score the checkpoint again."
            )
        table: pd.DataFrame = parquet.read(columns=list(COLUMNS), use_threads=False).to_pandas()
    return table


def _require_columns(names: Iterable[str]) -> None:
    missing = {*COLUMNS} - {*names}
    if missing:
        listed = ", ".join(name for name in COLUMNS if name in missing)
        raise UserError(f"outcomes table lacks the columns {listed}.")


def conform(table: pd.DataFrame) -> pd.DataFrame:
    """The table with exactly the columns and types of `COLUMNS`; UserError where one is missing."""
    _require_columns(table.columns)
    return table[list(COLUMNS)].astype(dict(COLUMNS)).reset_index(drop=True)
