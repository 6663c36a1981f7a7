"""The per-sample table every figure is computed from: the one source of truth.

One row per (attack, sample), or per (attack, sample, target) for targeted attacks. Needs no torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ferd_eval.errors import UserError
from ferd_eval.output import make_folder, write_atomically
from ferd_eval.seal import sealed, unsealed

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


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What happened to each image under each attack, with the record of how it came about.

    Attributes:
        table: one row per (attack, sample[, target]); columns and types as in `COLUMNS`.
        manifest: the run's JSON record; metrics read ``manifest["dataset"]["class_names"]``,
            ``manifest["dataset"]["name"]`` and ``manifest["attacks"]`` (id → constants).
    """

    table: pd.DataFrame
    manifest: Mapping[str, Any]

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

    def save(self, folder: Path) -> None:
        """Write ``outcomes.parquet`` and ``manifest.json`` atomically, the manifest last.

        The manifest keeps the table's digest, and one of itself.
        """
        make_folder(folder)
        content = self.table.to_parquet(index=False)
        write_atomically(folder / "outcomes.parquet", content)
        record = {**self.manifest, _DIGEST: hashlib.sha256(content).hexdigest()}
        write_atomically(folder / "manifest.json", sealed(record))

    @classmethod
    def load(cls, folder: Path) -> Outcomes:
        """Read a finished run's folder.

        Raises:
            UserError: there is none, or it is not as it was written.
        """
        table_file, manifest_file = folder / "outcomes.parquet", folder / "manifest.json"
        for file in (table_file, manifest_file):
            if not file.is_file():
                raise UserError(
                    f"{folder} holds no finished run: {file.name} is missing. "
                    "Score a checkpoint into it first, or give the folder of one checkpoint."
                )
        try:
            manifest = unsealed(
                json.loads(manifest_file.read_text(encoding="utf-8")), manifest_file
            )
            content = table_file.read_bytes()
            digest = manifest.pop(_DIGEST, None) if isinstance(manifest, dict) else None
            if digest not in (None, hashlib.sha256(content).hexdigest()):
                raise ValueError(f"{table_file.name} is not the one its manifest was written with")
            table = pd.read_parquet(io.BytesIO(content))
        except (ValueError, OSError) as reason:
            raise UserError(
                f"{folder} cannot be read as a run: {reason}. "
                "Remove the folder and score the checkpoint again."
            ) from reason
        if not isinstance(manifest, dict) or not {"dataset", "attacks"} <= {*manifest}:
            raise UserError(f"{manifest_file} is not a run's manifest. Give another folder.")
        return cls(conform(table), manifest)


def conform(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with exactly the columns and types of `COLUMNS`.

    Raises:
        UserError: a column is missing.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UserError(f"outcomes table lacks the columns {', '.join(missing)}.")
    return table[list(COLUMNS)].astype(dict(COLUMNS)).reset_index(drop=True)
