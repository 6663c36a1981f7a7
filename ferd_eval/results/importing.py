"""Plain predictions of any tool as an outcomes table. Needs no torch. N rows, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ferd_eval.errors import UserError
from ferd_eval.results.attack_id import spelling_key
from ferd_eval.results.outcomes import conform
from ferd_eval.results.prediction_file import UNKNOWN, FileRows, PredictionFile, read_rows

#: Without names there are as many classes as the largest number says; K × K tables must fit.
_MOST_CLASSES = 10_000


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was read."""

    table: pd.DataFrame  #: as in `Outcomes`; unknown is NaN, empty or 0, −1 in `clean_pred`
    class_names: tuple[str, ...]  #: of the K classes
    attacks: tuple[str, ...]  #: ids, ``clean`` first, else in order of appearance
    sources: tuple[Mapping[str, Any], ...]  #: one record a file, for the manifest
    notes: tuple[str, ...]  #: remarks for the user on how the files were read


def read_predictions(
    files: Sequence[PredictionFile], class_names: Sequence[str] | None = None
) -> Predictions:
    """Read files of predictions into one table.

    Clean predictions of the other attacks' rows are filled in from the rows of ``clean``, or, where
    there are none, these are made of a complete column `clean_pred`. Files are CSV, or ``.npz``
    archives whose arrays are called like the columns; an archive may hold N × K `logits` in place
    of `pred`. Without class names, classes are the numbers up to the largest one found.

    UserError: a file cannot be read, or what it says cannot be true.
    """
    parts = [read_rows(file) for file in files]
    _check_spellings(parts)
    notes, sources = [], []
    for file, part in zip(files, parts, strict=True):
        notes += [f"{file.path}: {each}" for each in part.notes]
        renamed = {said: attack for said, attack in part.read_as.items() if said != attack}
        sources.append(
            {
                "name": file.path.name,
                "sha256": file.sha256,
                "attacks": list(dict.fromkeys(part.table["attack"])),
                **({"read_as": renamed} if renamed else {}),
            }
        )
    table = pd.concat([part.table for part in parts], ignore_index=True)
    names = _class_names(table, class_names)
    _check_classes(table, len(names))
    _check_images(table)
    table, said = _with_clean_predictions(table)
    attacks = sorted(dict.fromkeys(table["attack"]), key=lambda attack: attack != "clean")
    order = np.argsort(pd.Categorical(table["attack"], attacks).codes, kind="stable")
    table = table.iloc[order]
    table = table.assign(
        adv_pred=table["pred"],
        correct=table["pred"] == table["label"],
        linf=np.where(table["attack"] == "clean", 0.0, table["linf"]),
    )
    return Predictions(conform(table), names, tuple(attacks), tuple(sources), (*notes, *said))


def _check_spellings(parts: Sequence[FileRows]) -> None:
    """Two names that mean one attack would be taken for two, or mixed."""
    first: dict[str, str] = {}
    for name, attack in ((name, attack) for part in parts for name, attack in part.read_as.items()):
        other = first.setdefault(spelling_key(attack), name)
        if other != name:
            raise UserError(
                f"{other!r} and {name!r} are two spellings of one attack ({attack}). Give both "
                "one name if they are one; else call them by their difference, as pgd and pgd-100."
            )


def _class_names(table: pd.DataFrame, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is not None:
        return tuple(names)
    largest = max(
        int(table[column].max(skipna=True))
        for column in ("label", "pred", "clean_pred", "target")
        if table[column].notna().any()
    )
    if largest >= _MOST_CLASSES:
        raise UserError(
            f"there is a class {largest}. Number the classes 0, 1, 2, …, or name them all with "
            "--classes or --dataset."
        )
    return tuple(map(str, range(max(largest + 1, 2))))


def _check_classes(table: pd.DataFrame, K: int) -> None:
    for column in ("label", "pred", "clean_pred", "target"):
        values = table[column].dropna()
        low = -1 if column == "clean_pred" else 0
        strange = values[(values < low) | (values >= K)]
        if len(strange):
            row = table.loc[strange.index[:1]].iloc[0]
            from_1 = table["label"].min() == 1 and table["label"].max() == K
            way_out = (
                "Classes are numbered from 0: subtract 1."
                if from_1
                else "Give all their names with --classes or --dataset, or correct the numbers."
            )
            raise UserError(
                f"image {row['index']} under {row['attack']} has {column} {strange.iloc[0]}, but "
                f"there are {K} classes (0 to {K - 1}). {way_out}"
            )


def _check_images(table: pd.DataFrame) -> None:
    """Nothing contradicts itself or occurs twice."""
    if (negative := table.loc[table["index"] < 0, "index"]).size:
        raise UserError(f"there is an image {negative.iloc[0]}; number images from 0.")
    twice_N = table.duplicated(["index", "attack", "target"])
    if twice_N.any():
        row = table[twice_N].iloc[0]
        raise UserError(
            f"image {row['index']} occurs more than once under {row['attack']} "
            f"({int(twice_N.sum())} rows too many). Keep one row for each image and attack; give "
            "files of several attacks as FILE=ATTACK."
        )
    relabelled_N = table["label"] != table.groupby("index")["label"].transform("first")
    if relabelled_N.any():
        index = table.loc[relabelled_N, "index"].iloc[0]
        labels = table.loc[table["index"] == index, "label"].unique().tolist()
        raise UserError(
            f"image {index} has the labels {' and '.join(map(str, labels))} "
            f"({table.loc[relabelled_N, 'index'].nunique()} images have several). The files must "
            "be of the same images; add an index if they are in different orders."
        )
    aimed_N = table["target"].notna()
    own = table.loc[(table["target"] == table["label"]).fillna(False), "index"]
    if len(own):
        raise UserError(f"image {own.iloc[0]} is aimed at its own class; leave such rows out.")
    mixed = aimed_N.groupby(table["attack"], sort=False).agg(["any", "all"])
    mixed = mixed[mixed["any"] & (~mixed["all"] | (mixed.index == "clean"))]
    if len(mixed):
        raise UserError(
            f"{mixed.index[0]} has rows with a target and should have none, or on all rows. Give "
            "them an attack name of their own."
        )


def _with_clean_predictions(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Fill in `clean_pred` from clean rows, or make those of it."""
    is_clean_N = table["attack"] == "clean"
    if not is_clean_N.any():
        if (table["clean_pred"] < 0).any():
            return table, ["clean predictions are unknown, so nothing is said of what attacks take"]
        clean = table.drop_duplicates("index")
        clean = clean.assign(
            **{**UNKNOWN, "attack": "clean", "pred": clean["clean_pred"], "target": None}
        )
        table = pd.concat([clean.astype(table.dtypes), table], ignore_index=True)
        is_clean_N = table["attack"] == "clean"
    said = table["clean_pred"].astype("int64")
    known = table[is_clean_N].set_index("index")["pred"]
    found = table["index"].map(known).fillna(-1).astype("int64")
    against_N = (said >= 0) & (found >= 0) & (said != found)
    if against_N.any():
        row = table[against_N].iloc[0]
        raise UserError(
            f"image {row['index']} has clean_pred {row['clean_pred']} under {row['attack']} but is "
            f"predicted as {found[against_N].iloc[0]} without an attack. Leave clean_pred out, or "
            "correct it."
        )
    table = table.assign(clean_pred=np.where(found >= 0, found, said))
    unknown = int((table["clean_pred"] < 0).sum())
    notes = [f"{unknown} attacked rows have no clean prediction"] if unknown else []
    return table, notes
