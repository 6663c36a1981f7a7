"""Published figures of others: read as printed, never mixed with measured ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path

from ferd_eval.errors import UserError
from ferd_eval.metrics.figures import Unit, papers_figures
from ferd_eval.report.format import EMPTY, FormattedValue

#: Published tables that come with the package: what ``--reported`` takes → file.
PACKAGED: Mapping[str, str] = {"paper": "ferd.csv", "ferd": "ferd.csv"}

_FIGURES = papers_figures()
_REQUIRED = ("dataset", "method", "attack", *_FIGURES)
_OPTIONAL = ("table", "student")

_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,12})?", re.ASCII)


@dataclass(frozen=True)
class Reported:
    """One published row.

    Attributes:
        scores: attack → key on leaderboards → the figure as its source prints it.
        table: of the source, empty where not told.
    """

    dataset: str
    name: str
    table: str
    scores: Mapping[str, Mapping[str, FormattedValue]]


@dataclass(frozen=True)
class ReportedTables:
    """Rows of one source, and its description."""

    source: str
    rows: tuple[Reported, ...]


def read_reported(spec: str) -> ReportedTables:
    """Read a CSV file in long form, or a packaged one by its name.

    Columns: dataset, method, attack, average, worst (per cent), nsd; student and table may be
    there. Lines that start with # describe the source.

    Raises:
        UserError: there is no such file, or a column or figure is not as above.
    """
    if spec in PACKAGED and not Path(spec).is_file():
        text = (resources.files(__package__) / PACKAGED[spec]).read_text(encoding="utf-8")
    else:
        text = _read(Path(spec))
    lines = text.splitlines()
    comments = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
    reader = csv.DictReader(line for line in lines if line.strip() and not line.startswith("#"))
    try:
        columns, table = reader.fieldnames or (), list(reader)
    except csv.Error as reason:
        raise UserError(f"{spec} is no table of cells ({reason}). Mend the file.") from reason
    _check_columns(columns, spec)
    rows: dict[tuple[str, str, str], dict[str, Mapping[str, FormattedValue]]] = {}
    for number, row in enumerate(table, start=1):
        where = f"{spec}: data row {number}"
        if None in row or None in row.values():
            raise UserError(f"{where} has more or fewer cells than the heading. Mend the file.")
        words = {key: (row.get(key) or "").strip() for key in (*_REQUIRED, *_OPTIONAL)}
        dataset, attack = words["dataset"], words["attack"]
        name = words["method"] + (f" ({words['student']})" if words["student"] else "")
        scores = rows.setdefault((dataset, name, words["table"]), {})
        if attack in scores:
            raise UserError(
                f"{where} repeats {name} under {attack} on {dataset}. Keep one of the two."
            )
        scores[attack] = {key: _figure(words[key], key, where) for key in _FIGURES}
    if not rows:
        raise UserError(f"{spec} holds no rows. Give a CSV file with {', '.join(_REQUIRED)}.")
    found = tuple(Reported(*key, scores) for key, scores in rows.items())
    return ReportedTables(" ".join(comments) or Path(spec).name, found)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        what = reason.strerror if isinstance(reason, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"--reported {file} cannot be read: {what}. Give a CSV file, or "
            f"{' or '.join(PACKAGED)}."
        ) from reason


def _check_columns(found: Iterable[str], spec: str) -> None:
    names = [name.strip() for name in found]
    unknown = [name for name in names if name not in (*_REQUIRED, *_OPTIONAL)]
    missing = [name for name in _REQUIRED if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        told = [f"unknown are {', '.join(map(repr, unknown))}"] if unknown else []
        told += [f"missing are {', '.join(missing)}"] if missing else []
        told = told or ["one is there twice"]
        raise UserError(
            f"{spec} has other columns than published tables need: {'; '.join(told)}. "
            f"Give {', '.join(_REQUIRED)}, and if you like {' and '.join(_OPTIONAL)}."
        )


def _figure(text: str, key: str, where: str) -> FormattedValue:
    """The digits as they stand in the source; the value is a fraction, or the NSD itself."""
    if not text:
        return EMPTY
    as_ratio = _FIGURES[key].unit is Unit.RATIO
    if not _NUMBER.fullmatch(text) or (not as_ratio and Decimal(text) > 100):
        wanted = "a number such as 0.337" if as_ratio else "per cent, from 0 to 100"
        raise UserError(f"{where}: {key} is {text!r}, which should be {wanted}. Mend the file.")
    return FormattedValue(float(Decimal(text) / (1 if as_ratio else 100)), text)
