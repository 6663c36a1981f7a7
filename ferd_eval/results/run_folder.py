"""A run's folder is its own: nothing is written among somebody else's files. Needs no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, listed
from ferd_eval.io.json import parse_json
from ferd_eval.results.manifest import RECORD, look_up
from ferd_eval.results.outcomes import OUTCOMES
from ferd_eval.runtime.remarks import remark

#: Files of a run, finished or stopped; its record, `RECORD`, is written first.
OWN_FILES = re.compile(
    r"units|adversarial|outcomes\.parquet|scorecards?\.json|report(_wide)?\.\w+|audit\.\w+"
    r"|SHA256SUMS(\.sig)?"
)


def require_own_folder(folder: Path, runs: Sequence[str] = ()) -> None:
    """Refuse to write a run among the files of something else.

    A folder may hold runs, or what is left of one; `runs` names those that are to be folders in it.
    UserError: it holds something else.
    """
    try:
        names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
        ours = (folder / RECORD).exists() or any(folder.glob(f"*/{RECORD}"))
    except OSError:
        return  # there is nothing yet, or what is wrong has its own message
    foreign = [name for name in names if not (name in runs or OWN_FILES.fullmatch(name))]
    if foreign and not ours:
        raise UserError(
            f"{folder} holds files that are not of a run ({listed(foreign, 3)}). "
            f"Give a folder of its own, e.g. --out {folder / 'run'}."
        )


#: How far below a folder its runs may lie: a study's are in TEACHER/METHOD/seed-0/EVALUATION.
_DEPTH = 4

#: Most ways of typing a command that a message lists.
_MOST_LISTED = 4

_SEED = re.compile(r"seed[-_]?(\d+)", re.IGNORECASE)

#: Entries of the record of a scoring run, and of a training run.
_SCORING, _TRAINING = {"attacks", "unit_images"}, {"recipe", "result"}


@dataclass(frozen=True)
class RunFolders:
    """What is in a folder."""

    runs: tuple[Path, ...]  #: finished ones, ``seed-2`` before ``seed-10``
    unfinished: tuple[Path, ...] = ()  #: scoring runs without outcomes
    is_one_run: bool = False  #: whether the folder is a run itself

    @property
    def teachers(self) -> tuple[Path, ...]:
        """Runs of networks that others among the runs were distilled from."""
        records = {run: record_in(run) for run in self.runs}
        taught_by = {look_up(each, "checkpoint.teacher_sha256") for each in records.values()}
        taught_by.discard(None)
        found = tuple(
            run for run, each in records.items() if look_up(each, "checkpoint.sha256") in taught_by
        )
        return found if len(found) < len(self.runs) else ()

    def without_teachers(self) -> tuple[Path, ...]:
        """The students alone; who is left out is said in a remark."""
        teachers = self.teachers
        for folder in teachers:
            say_left_out(folder, "is what the students beside it were distilled from")
        return tuple(run for run in self.runs if run not in teachers)


def say_left_out(folder: Path, why: str) -> None:
    """A remark."""
    remark(f"left out: {folder} {why}.")


def find_runs(folder: Path) -> RunFolders:
    """The folder itself if it is a run, else the runs below it; UserError where there is none.

    A file in a folder, such as the page that a command printed, stands for the folder.
    """
    if folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}. Give the --out of a score command.")
    if (folder / OUTCOMES).is_file():
        return RunFolders((folder,), is_one_run=True)
    below = [
        file.parent
        for depth in range(1, _DEPTH + 1)
        for file in folder.glob("*/" * depth + OUTCOMES)
    ]
    records = [
        file.parent
        for depth in range(_DEPTH + 1)
        for file in folder.glob("*/" * depth + RECORD)
        if not (file.parent / OUTCOMES).exists()
    ]
    unfinished = [each for each in records if {*_read(each)} >= _SCORING]
    if not below:
        raise UserError(_nothing_in(folder, unfinished, records))
    return RunFolders(
        tuple(sorted(below, key=in_numbers)), tuple(sorted(unfinished, key=in_numbers))
    )


def _nothing_in(folder: Path, unfinished: Sequence[Path], records: Sequence[Path]) -> str:
    if unfinished:
        return (
            f"{folder} holds an unfinished run: {OUTCOMES} is missing. Finish it by repeating its "
            "score command, or give another folder."
        )
    for trained in sorted(records, key=in_numbers):
        name = look_up(_read(trained), "result.file")
        if {*_read(trained)} >= _TRAINING and isinstance(name, str):
            return (
                f"{folder} holds a trained network that is not scored. Type ferd-eval score "
                f"{trained / Path(name).name} --dataset NAME --out DIR, and give that DIR."
            )
    parent = folder.resolve().parent
    if folder.name == "report" and any(
        next(parent.glob("*/" * depth + OUTCOMES), None) for depth in range(1, _DEPTH + 1)
    ):
        return (
            f"{folder} holds a report, but the runs themselves are in {folder / '..'}. Give that."
        )
    return (
        f"{folder} holds no run: {OUTCOMES} is missing. Give the --out of a score command, or "
        "another folder."
    )


def in_numbers(folder: Path) -> list[tuple[str, int]]:
    """Sort key: ``seed-10`` comes after ``seed-9``."""
    parts = re.split(r"(\d+)", str(folder))
    return [("", int(part)) if part.isdigit() else (part, 0) for part in parts]


def record_in(folder: Path) -> Mapping[str, Any]:
    """The record of a run; UserError where it cannot be read."""
    try:
        record = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UserError(f"{folder / RECORD} cannot be read: {reason}.") from reason
    return record if isinstance(record, dict) else {}


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        return record_in(folder)
    except UserError:
        return {}


def seed_of(folder: Path, record: Mapping[str, Any]) -> int | None:
    """Training seed: by the checkpoint's own record, else by a part of the path."""
    recorded = look_up(record, "checkpoint.recipe.seed")
    if isinstance(recorded, int):
        return recorded
    named = [found[1] for part in folder.resolve().parts if (found := _SEED.fullmatch(part))]
    return int(named[-1]) if named else None


def by_method(folders: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Runs whose training recipes, or else whose paths, differ in the seed only.

    Where that puts a network into a method twice, its evaluations are apart.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        groups.setdefault(_method(folder), []).append(folder)
    found: list[tuple[Path, ...]] = []
    for those in groups.values():
        digests = [look_up(record_in(folder), "checkpoint.sha256") for folder in those]
        known = [digest for digest in digests if digest is not None]
        if len({*known}) == len(known):
            found.append(tuple(those))
            continue
        apart: dict[str, list[Path]] = {}
        for folder in those:
            apart.setdefault(measurement(record_in(folder)), []).append(folder)
        found += map(tuple, apart.values())
    return found


def _method(folder: Path) -> str:
    recipe = look_up(record_in(folder), "checkpoint.recipe")
    if isinstance(recipe, Mapping) and "seed" in recipe:
        own = {key: value for key, value in recipe.items() if key != "seed"}
        return json.dumps(own, sort_keys=True, default=str)
    parts = folder.resolve().parts
    return "/".join(part for part in parts if not _SEED.fullmatch(part))


def measurement(record: Mapping[str, Any]) -> str:
    """On which images a network was scored, and under what."""
    images = look_up(record, "dataset.fingerprint")
    return json.dumps([images, record.get("attacks")], sort_keys=True, default=str)


def to_type(folders: Sequence[Path]) -> str:
    """Runs of several methods, method by method, as a command takes them."""
    sides = [",".join(map(_short, those)) for those in by_method(folders)]
    hidden = len(sides) - _MOST_LISTED
    if hidden > 1:
        sides[_MOST_LISTED:] = [f"one of {hidden} more"]
    return " or ".join(sides)


def _short(folder: Path) -> str:
    """Seen from where the command is typed, if the folder lies below that."""
    here = Path.cwd()
    return os.path.relpath(folder, here) if folder.resolve().is_relative_to(here) else str(folder)
