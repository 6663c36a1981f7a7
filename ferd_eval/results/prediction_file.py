"""One file of plain predictions: CSV or an ``.npz`` archive. No torch. N images, K classes."""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.errors import UserError
from ferd_eval.io.files import file_sha256
from ferd_eval.io.json import is_text
from ferd_eval.io.npz import NpzArchive, open_npz
from ferd_eval.results.attack_id import attack_id, known_attack
from ferd_eval.results.outcomes import ATTACK_ID, OUTCOMES, read_table

#: Columns that are read; all others are left alone.
_COLUMNS = ("index", "label", "pred", "attack", "clean_pred", "target")

#: What this package itself calls them in `outcomes.parquet` and beside adversarial images.
_OTHER_NAMES = {"prediction": "pred", "adv_pred": "pred"}

#: A column of predictions that says of which attack: ``natural_pred``, ``pred_pgd``.
_OF_AN_ATTACK = re.compile(r"(.+?)[\W_]*pred(?:s|ictions?)?|pred(?:s|ictions?)?[\W_]*(.+)")

#: Columns that may have empty cells → the value of an empty cell.
_EMPTY = {"target": ["", "NA", "nan", "NaN", "<NA>", "None", "null"]}
_EMPTY["clean_pred"] = _EMPTY["target"]

#: What only `outcomes.parquet` or logits tell, and what stands for it elsewhere.
UNKNOWN = {"margin": np.nan, "confidence": np.nan, "linf": np.nan, "stage": None, "steps": 0}

#: What images are saved as, and predictions are not.
_IMAGE_SUFFIXES = (".pt", ".pth", ".npy")

_SEPARATORS = ",;\t|"

#: A first line longer than this is no list of columns.
_LONGEST_LINE = 100_000


@dataclass(frozen=True)
class PredictionFile:
    """A file, and what attack its rows are of where it does not say so itself; None: not known."""

    path: Path
    attack: str | None
    attack_is_given: bool = False

    @property
    def sha256(self) -> str:
        """Digest of the whole file, hexadecimal."""
        return file_sha256(self.path)


@dataclass(frozen=True, eq=False)
class FileRows:
    """The rows of one file."""

    #: Columns `index`, `label`, `pred`, `attack`, `target` (null where there is none), `clean_pred`
    #: (−1 where unknown), `margin`, `confidence` and `linf` (NaN where unknown), `stage` (None) and
    #: `steps` (0).
    table: pd.DataFrame
    read_as: Mapping[str, str]  #: attack as it was written → its id
    notes: tuple[str, ...]  #: remarks for the user on how they were read


def read_rows(file: PredictionFile) -> FileRows:
    """Read one file.

    UserError: it cannot be read, a cell is not what it should be, or nobody says which attack the
    predictions were made under.
    """
    path = file.path
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        own = path.is_dir() and (path / OUTCOMES).is_file()
        hint = f" To see the run in it, type: ferd-eval report {path}" if own else ""
        raise UserError(f"{path} {state}; give a CSV or npz file of predictions.{hint}")
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise UserError(
            f"{path} looks like adversarial images: give --checkpoint and --dataset too."
        )
    read = {".npz": _read_npz, ".parquet": _read_parquet}.get(path.suffix.lower(), _read_csv)
    raw, unknown = read(path)
    notes = [f"ignored {', '.join(unknown[:5])}" + (" …" if len(unknown) > 5 else "")]
    notes = notes if unknown else []
    if raw.empty:
        raise UserError(f"{path} holds no rows; give one for each image.")
    raw = _lengthened(raw)
    rows = pd.DataFrame(
        {"label": _integers(raw["label"], path), "pred": _integers(raw["pred"], path)}
    )
    said = _attacks(raw, file)
    what_to_do = (
        "Write clean or the attack's own name (as pgd) in its column attack."
        if "attack" in raw
        else f"Type {path}=clean, or {path}=NAME_OF_ATTACK (as {path.name}=pgd)."
    )
    read_as = {name: _attack_id(name, path, what_to_do) for name in dict.fromkeys(said)}
    rows["attack"] = said.map(read_as).astype("string")
    notes += [
        f"{name!r} is read as {attack}" + (": nothing was attacked" if attack == "clean" else "")
        for name, attack in read_as.items()
        if name != attack
    ]
    for column, empty in (("target", pd.NA), ("clean_pred", -1)):
        rows[column] = _integers(raw[column], path, empty) if column in raw else empty
    rows["target"] = rows["target"].astype("Int64")
    for column, nothing in UNKNOWN.items():
        rows[column] = raw.get(column, nothing)
    if "index" in raw:
        rows["index"] = _integers(raw["index"], path)
    elif rows["target"].notna().any():
        raise UserError(f"{path} has targets, so its images occur several times: add an index.")
    else:
        rows["index"] = rows.groupby("attack", sort=False).cumcount()
        notes.append("no index, so rows are taken for images 0, 1, 2, … in their order")
    return FileRows(rows, read_as, tuple(notes))


def _lengthened(raw: pd.DataFrame) -> pd.DataFrame:
    """A table with a column for each attack as one with a row for each attack."""
    of_attacks = _named_columns(list(raw.columns))
    if not of_attacks:
        return raw
    rest = raw.drop(columns=list(of_attacks))
    parts = [rest.assign(pred=raw[column], attack=attack) for column, attack in of_attacks.items()]
    return pd.concat(parts, ignore_index=True)


def _named_columns(columns: Sequence[str]) -> dict[str, str]:
    """Columns of predictions → their attack, where a table has several in place of `pred`."""
    if "pred" in columns or "attack" in columns:
        return {}
    ends = {name: name.removesuffix("_pred") for name in columns if name.endswith("_pred")}
    return {name: attack for name, attack in ends.items() if known_attack(attack) == attack}


def _attacks(raw: pd.DataFrame, file: PredictionFile) -> pd.Series:
    """The attack of each row as it is written."""
    path = file.path
    if "attack" not in raw:
        if file.attack is None:
            raise UserError(
                f"nothing says whether the predictions in {path} are of attacked images. Type "
                f"{path}=clean, or {path}=NAME_OF_ATTACK (as {path.name}=pgd)."
            )
        return pd.Series([file.attack] * len(raw), dtype="string")
    if file.attack_is_given:
        raise UserError(f"{path} names its attacks and is given as {file.attack!r}. Leave one out.")
    said = raw["attack"].astype("string").str.strip()
    nameless = np.flatnonzero(said.isna() | (said == ""))
    if len(nameless):
        raise UserError(
            f"{path}, row {nameless[0] + 1}: the attack is empty. Write clean, or its name."
        )
    return said


def _attack_id(name: str, path: Path, what_to_do: str) -> str:
    found = attack_id(name)
    if found is None:
        raise UserError(f"{path}: {name!r} may mean clean images or an attack. {what_to_do}")
    if not ATTACK_ID.fullmatch(found):
        raise UserError(
            f"{path}: no attack can be called {name!r}. Use letters, digits and -, or name "
            f"it: {path.name}=pgd."
        )
    return found


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


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """What this package writes itself: the outcomes of a run."""
    table = read_table(path).rename(columns={"adv_pred": "pred"})
    target = table["target"].to_numpy(dtype=np.float64, na_value=np.nan)
    return table.assign(target=target), []


def _vector(archive: NpzArchive, key: str) -> NDArray[Any]:
    if key not in archive.keys:
        raise UserError(f"{archive.path} has no {key}, only {', '.join(archive.keys)}; add it.")
    header = archive.header(key)
    is_column = len(header.shape) == 2 and header.shape[1] == 1  # as Keras keeps labels
    if not (len(header.shape) == 1 or is_column) or header.dtype.kind not in "iufUSb":
        raise UserError(
            f"{archive.path}: {key} has shape {header.shape} and type {header.dtype}; save one "
            "value for each image."
        )
    values = archive.read(key).reshape(-1)
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
    return [_OTHER_NAMES.get(name) or _of_an_attack(name) or name for name in lower]


def _of_an_attack(name: str) -> str | None:
    """``natural_pred`` is ``clean_pred``, ``pred_pgd20`` is ``pgd_pred``."""
    match = _OF_AN_ATTACK.fullmatch(name)
    said = (match[1] or match[2]) if match else ""
    if said in ("adv", "adversarial"):
        return "pred"
    attack = known_attack(said)
    return None if attack is None else f"{attack}_pred"


def _require_columns(path: Path, columns: Sequence[str]) -> list[str]:
    """The known ones among the columns of a file."""
    of_attacks = _named_columns(columns)
    known = [name for name in columns if name in _COLUMNS or name in of_attacks]
    twice = [name for name, count in Counter(known).items() if count > 1]
    if twice:
        raise UserError(f"{path} has {twice[0]} more than once; keep one of them.")
    missing = [name for name in ("label", "pred") if name not in columns]
    if of_attacks and "label" in columns:
        missing = []
    if missing:
        there = ", ".join(name for name in columns if name)[:200] or "nothing"
        raise UserError(
            f"{path} has no {' and no '.join(missing)}, only {there}. Call the columns index, "
            "label, pred and, if there are several attacks, attack; images need --checkpoint."
        )
    return known


def _numbers(values: pd.Series) -> pd.Series:
    """Texts as numbers, NaN where they are none."""
    try:
        return pd.to_numeric(values, errors="coerce")
    except OverflowError:  # more digits than a float has room for
        return pd.to_numeric(values.where(values.astype(str).str.len() < 300), errors="coerce")


def _integers(values: pd.Series, path: Path, empty: Any = None) -> pd.Series:
    """A column as int64; ``3.0`` is 3. Empty cells become `empty`, where that is given."""
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
