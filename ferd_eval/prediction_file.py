"""One file of plain predictions: CSV or an ``.npz`` archive. No torch. N images, K classes."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.datasets.npz_archive import NpzArchive, open_npz
from ferd_eval.errors import UserError
from ferd_eval.file_digest import file_sha256
from ferd_eval.outcomes import ATTACK_ID
from ferd_eval.output import is_text

#: Columns that are read; all others are left alone.
_COLUMNS = ("index", "label", "pred", "attack", "clean_pred", "target")

#: What this package itself calls them in `outcomes.parquet` and beside adversarial images.
_OTHER_NAMES = {"prediction": "pred", "adv_pred": "pred"}

#: Columns that may have empty cells, and what an empty cell reads as.
_EMPTY = {"target": ["", "NA", "nan", "NaN", "<NA>", "None", "null"]}
_EMPTY["clean_pred"] = _EMPTY["target"]

#: What images are saved as, and predictions are not.
_IMAGE_SUFFIXES = (".pt", ".pth", ".npy")

_SEPARATORS = ",;\t|"

#: A first line longer than this is no list of columns.
_LONGEST_LINE = 100_000


@dataclass(frozen=True)
class PredictionFile:
    """A file, and what attack its rows are of where it does not say so itself."""

    path: Path
    attack: str
    attack_is_given: bool = False

    @property
    def sha256(self) -> str:
        """Digest of the whole file, hexadecimal."""
        return file_sha256(self.path)


def read_rows(file: PredictionFile) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one file, and what is to be said of how they were understood.

    Returns:
        Columns `index`, `label`, `pred`, `attack`, `target` (null where there is none),
        `clean_pred` (−1 where unknown), `margin` and `confidence` (NaN where unknown).

    Raises:
        UserError: the file cannot be read, or a cell is not what it should be.
    """
    path = file.path
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {state}; give a CSV or npz file of predictions.")
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise UserError(
            f"{path} looks like adversarial images: give --checkpoint and --dataset too."
        )
    raw, unknown = _read_npz(path) if path.suffix.lower() == ".npz" else _read_csv(path)
    notes = [f"ignored {', '.join(unknown[:5])}" + (" …" if len(unknown) > 5 else "")]
    notes = notes if unknown else []
    if raw.empty:
        raise UserError(f"{path} holds no rows; give one for each image.")
    rows = pd.DataFrame(
        {"label": _integers(raw["label"], path), "pred": _integers(raw["pred"], path)}
    )
    if "attack" in raw:
        if file.attack_is_given:
            raise UserError(
                f"{path} has a column attack and is given as {file.attack!r}. Leave one out."
            )
        rows["attack"] = raw["attack"].astype("string").str.strip()
        nameless = np.flatnonzero(rows["attack"].isna() | (rows["attack"] == ""))
        if len(nameless):
            raise UserError(f"{path}, row {nameless[0] + 1}: the attack is empty. Give it a name.")
    else:
        rows["attack"] = pd.array([file.attack] * len(rows), dtype="string")
    for attack in dict.fromkeys(rows["attack"]):
        if not ATTACK_ID.fullmatch(attack):
            raise UserError(
                f"{path}: no attack can be called {attack!r}. Use letters, digits and -, or name "
                f"it: {path.name}=pgd."
            )
    for column, empty in (("target", pd.NA), ("clean_pred", -1)):
        rows[column] = _integers(raw[column], path, empty) if column in raw else empty
    rows["target"] = rows["target"].astype("Int64")
    for column in ("margin", "confidence"):
        rows[column] = raw.get(column, np.nan)
    if "index" in raw:
        rows["index"] = _integers(raw["index"], path)
    elif rows["target"].notna().any():
        raise UserError(f"{path} has targets, so its images occur several times: add an index.")
    else:
        rows["index"] = rows.groupby("attack", sort=False).cumcount()
        notes.append("no index, so rows are taken for images 0, 1, 2, … in their order")
    return rows, notes


def _read_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The known columns of a CSV file, and the names of the others."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            heading = ""
            while not heading.strip() and (line := stream.readline(_LONGEST_LINE)):
                heading = line
        if not heading.strip():
            raise UserError(f"{path} is empty; it needs a line index,label,pred and one an image.")
        separator = max(_SEPARATORS, key=heading.count)
        columns = _canonical(next(csv.reader([heading.strip("\r\n")], delimiter=separator)))
        known = _require_columns(path, columns)
        with warnings.catch_warnings():  # one that fields are dropped among them
            warnings.simplefilter("error", pd.errors.ParserWarning)
            raw = pd.read_csv(
                path,
                sep=separator,
                encoding="utf-8-sig",
                compression=None,
                header=0,
                names=[name if name in known else i for i, name in enumerate(columns)],
                index_col=False,
                skipinitialspace=True,
                keep_default_na=False,
                na_values={name: _EMPTY[name] for name in known if name in _EMPTY},
                dtype={"attack": "string"} if "attack" in known else None,
                low_memory=False,
            )
    except UserError:
        raise
    except UnicodeDecodeError as reason:
        raise UserError(
            f"{path} is no text in UTF-8 ({reason.reason} at byte {reason.start}); save it as CSV."
        ) from reason
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as reason:
        raise UserError(
            f"{path} cannot be read as CSV: {' '.join(str(reason).split())}. Give every row as "
            "many fields as the first line."
        ) from reason
    return raw[known], [name for name in columns if name and name not in known]


def _read_npz(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The known arrays of an archive, and the names of the others."""
    with open_npz(path) as archive:
        by_name = dict(zip(_canonical(archive.keys), archive.keys, strict=True))
        if "logits" in by_name and "pred" not in by_name:
            label_N = _vector(archive, by_name.get("label", "label"))
            columns = _of_logits(path, archive.read(by_name.pop("logits")), label_N)
        else:
            columns = {}
        known = _require_columns(path, [*by_name, *columns])
        for name in known:
            if name not in columns:
                columns[name] = _vector(archive, by_name[name])
    lengths = {name: len(values) for name, values in columns.items()}
    if len({*lengths.values()}) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{path}: arrays have different lengths ({said}); give one value an image.")
    return pd.DataFrame(columns), [by_name[name] for name in by_name if name not in known]


def _vector(archive: NpzArchive, key: str) -> NDArray[Any]:
    if key not in archive.keys:
        raise UserError(f"{archive.path} has no {key}, only {', '.join(archive.keys)}; add it.")
    header = archive.header(key)
    if len(header.shape) != 1 or header.dtype.kind not in "iufUSb":
        raise UserError(
            f"{archive.path}: {key} has shape {header.shape} and type {header.dtype}; save one "
            "value for each image."
        )
    values = archive.read(key)
    try:
        values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        is_sound = values.dtype.kind != "U" or is_text("".join(values.tolist()))
    except ValueError:
        is_sound = False
    if not is_sound:
        raise UserError(f"{archive.path}: {key} holds what is no text; save text.")
    return values


def _of_logits(
    path: Path, logits_NK: NDArray[Any], label_N: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Prediction, margin and confidence."""
    if logits_NK.ndim != 2 or logits_NK.shape[1] < 2 or logits_NK.dtype.kind != "f":
        raise UserError(
            f"{path}: logits has shape {logits_NK.shape} and type {logits_NK.dtype}; save N×K "
            "floats."
        )
    if len(logits_NK) != len(label_N):
        raise UserError(f"{path}: {len(logits_NK)} rows of logits for {len(label_N)} labels.")
    if not np.isfinite(logits_NK).all():
        raise UserError(f"{path}: logits has values that are not finite; save finite ones.")
    wide_NK = logits_NK.astype(np.float64)
    K = wide_NK.shape[1]
    inside_N = np.isin(label_N, np.arange(K))  # what is outside has its own message
    row_N, place_N = np.arange(len(label_N)), np.where(inside_N, label_N, 0).astype(np.int64)
    others_NK = wide_NK.copy()
    others_NK[row_N, place_N] = -np.inf
    top_N = wide_NK.max(axis=1)
    return {
        "pred": wide_NK.argmax(axis=1),
        "margin": wide_NK[row_N, place_N] - others_NK.max(axis=1),
        "confidence": 1 / np.exp(wide_NK - top_N[:, None]).sum(axis=1),
    }


def _canonical(names: Sequence[str]) -> list[str]:
    lower = [name.strip().lower() for name in names]
    return [_OTHER_NAMES.get(name, name) for name in lower]


def _require_columns(path: Path, columns: Sequence[str]) -> list[str]:
    """The known ones among the columns of a file."""
    twice = [name for name, count in Counter(columns).items() if count > 1 and name in _COLUMNS]
    if twice:
        raise UserError(f"{path} has {twice[0]} more than once; keep one of them.")
    missing = [name for name in ("label", "pred") if name not in columns]
    if missing:
        there = ", ".join(name for name in columns if name)[:200] or "nothing"
        raise UserError(
            f"{path} has no {' and no '.join(missing)}, only {there}. Call the columns index, "
            "label, pred and, if there are several attacks, attack; images need --checkpoint."
        )
    return [name for name in columns if name in _COLUMNS]


def _numbers(values: pd.Series) -> pd.Series:
    """Texts as numbers, NaN where they are none."""
    try:
        return pd.to_numeric(values, errors="coerce")
    except OverflowError:  # more digits than a float has room for
        return pd.to_numeric(values.where(values.astype(str).str.len() < 300), errors="coerce")


def _integers(values: pd.Series, path: Path, empty: Any = None) -> pd.Series:
    """A column as int64; ``3.0`` is 3. Empty cells become `empty`, where that is given.

    Raises:
        UserError: a cell is no whole number.
    """
    if values.dtype.kind == "i":
        return values.astype("int64")
    value_N = np.asarray(
        values if values.dtype.kind in "uf" else _numbers(values), dtype=np.float64
    )
    missing_N = values.isna().to_numpy() if empty is not None else np.zeros(len(values), dtype=bool)
    with np.errstate(invalid="ignore"):
        whole_N = np.isfinite(value_N) & (value_N == np.trunc(value_N)) & (abs(value_N) < 2**53)
    wrong = np.flatnonzero(~(whole_N | missing_N))
    if len(wrong) or values.dtype.kind == "b":
        row = int(wrong[0]) if len(wrong) else 0
        raise UserError(
            f"{path}, row {row + 1}: {values.name} is {str(values.iloc[row])[:40]!r}, not a whole "
            "number. Number images and classes from 0."
        )
    found = pd.Series(np.where(missing_N, 0, value_N).astype(np.int64), name=values.name)
    return found.astype("Int64").mask(missing_N, empty) if missing_N.any() else found
