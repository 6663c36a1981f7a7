"""``RUN...`` of a leaderboard: which folders are one row, and what the row is called."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferd_eval.cli.sides import Side, read_side, with_own_names
from ferd_eval.errors import UserError
from ferd_eval.manifest import RECORD, look_up
from ferd_eval.metrics import Scorecard, scorecard
from ferd_eval.outcomes import Outcomes
from ferd_eval.output import parse_json
from ferd_eval.report.leaderboard import Entry
from ferd_eval.report.leaderboard.entry import images_of

_OUTCOMES = "outcomes.parquet"

#: How far below a folder its runs may lie: METHOD/seed-0/RUN.
_DEPTH = 3

_SEED = re.compile(r"seed[-_]?(\d+)", re.IGNORECASE)


def read_entries(
    arguments: Sequence[str], *, group_seeds: bool
) -> tuple[list[Entry], tuple[Path, ...]]:
    """Read each argument: a run, a folder of runs, or ``NAME=A,B,C`` over training seeds.

    Returns:
        The rows, in the order given, and the folders left out because their run is unfinished.

    Raises:
        UserError: there is no such run, it cannot be read, or runs of one row do not belong
            together.
    """
    rows: list[_Row] = []
    unfinished: list[Path] = []
    for argument in arguments:
        name, folders, one_row = _parse(argument)
        found = [run for folder in folders for run in _runs_in(folder, unfinished)]
        if one_row:
            rows.append(_Row(name, tuple(found)))
        elif group_seeds:
            rows += [_Row("", those) for those in _by_method(found)]
        else:
            rows += [_Row("", (folder,)) for folder in found]
    _require_once([folder for row in rows for folder in row.folders])
    sides = [
        read_side([folder.resolve() for folder in row.folders], row.name or str(row.folders[0]))
        for row in rows
    ]
    names = _names(rows, sides)
    entries = [
        _entry(name, row.folders, side) for name, row, side in zip(names, rows, sides, strict=True)
    ]
    return entries, tuple(unfinished)


def read_rows(rows: Sequence[tuple[str, Sequence[Path]]]) -> list[Entry]:
    """Read rows whose names and runs are known: one run, or several over training seeds.

    Raises:
        UserError: a run cannot be read, or runs of one row do not belong together.
    """
    return [
        _entry(name, folders, read_side([folder.resolve() for folder in folders], name))
        for name, folders in rows
    ]


@dataclass(frozen=True)
class _Row:
    """Runs of one row; the name is empty where the user gives none."""

    name: str
    folders: tuple[Path, ...]


def _parse(argument: str) -> tuple[str, list[Path], bool]:
    """Name, folders, and whether they are one row."""
    if Path(argument).exists():
        return "", [Path(argument)], False
    name, equals, rest = argument.partition("=")
    if not equals:
        name, rest = "", argument
    elif not name.strip() or not rest.strip():
        raise UserError(f"{argument!r} lacks a name or a folder. Write NAME=FOLDER,FOLDER.")
    folders = [rest] if Path(rest).exists() else [part for part in rest.split(",") if part]
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder}. Give the --out of a score command.")
    return name.strip(), [Path(folder) for folder in folders], bool(equals) or len(folders) > 1


def _runs_in(folder: Path, unfinished: list[Path]) -> list[Path]:
    """The folder itself if it is a run, else the runs below it."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give the --out of a score command.")
    if (folder / _OUTCOMES).is_file():
        return [folder]
    below = [
        file.parent for depth in range(1, _DEPTH + 1) for file in folder.glob("*/" * depth + RECORD)
    ]
    runs = sorted((each for each in below if (each / _OUTCOMES).is_file()), key=_in_numbers)
    started = [each for each in (folder, *below) if _is_unfinished(each)]
    unfinished += sorted(started, key=_in_numbers)
    if not runs:
        state = "an unfinished run" if started else "no run"
        raise UserError(
            f"{folder} holds {state}: {_OUTCOMES} is missing. Finish it by repeating its score "
            "command, or give another folder."
        )
    return runs


def _is_unfinished(folder: Path) -> bool:
    """Whether it holds the record of a scoring run, and no outcomes."""
    if (folder / _OUTCOMES).exists():
        return False
    try:
        manifest = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"attacks", "unit_images"} <= {*manifest}


def _in_numbers(folder: Path) -> list[tuple[str, int]]:
    """Sort key: ``seed-10`` comes after ``seed-9``."""
    parts = re.split(r"(\d+)", str(folder))
    return [("", int(part)) if part.isdigit() else (part, 0) for part in parts]


def _by_method(folders: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Runs whose training recipes, or else whose paths, differ in the seed only."""
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        recipe = look_up(_manifest(folder), "checkpoint.recipe")
        if isinstance(recipe, Mapping) and "seed" in recipe:
            own = {key: value for key, value in recipe.items() if key != "seed"}
            method = json.dumps(own, sort_keys=True, default=str)
        else:
            parts = folder.resolve().parts
            method = "/".join(part for part in parts if not _SEED.fullmatch(part))
        groups.setdefault(method, []).append(folder)
    return list(map(tuple, groups.values()))


def _seed(folder: Path, run: Outcomes) -> int | None:
    """Training seed: by the checkpoint's own record, else by a part of the path."""
    recorded = look_up(run.manifest, "checkpoint.recipe.seed")
    if isinstance(recorded, int):
        return recorded
    named = [found[1] for part in folder.resolve().parts if (found := _SEED.fullmatch(part))]
    return int(named[-1]) if named else None


def _entry(name: str, folders: Sequence[Path], side: Side) -> Entry:
    seeds = [_seed(folder, run) for folder, run in zip(folders, side.runs, strict=True)]
    order = sorted(range(len(seeds)), key=lambda i: (seeds[i] is None, seeds[i] or 0))
    cards = [_scored(folder, run) for folder, run in zip(folders, side.runs, strict=True)]
    entry = Entry(
        name,
        side.in_order(order).runs,
        tuple(cards[i] for i in order),
        tuple(seeds[i] for i in order),
    )
    _require_one_measurement(entry)
    return entry


def _scored(folder: Path, run: Outcomes) -> Scorecard:
    """Figures of a run.

    Raises:
        UserError: its record or its table is damaged; the message names it.
    """
    try:
        card = scorecard(run)
        images_of(run)
    except UserError as reason:
        raise UserError(f"{folder}: {reason}") from reason
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as reason:
        raise UserError(
            f"{folder} cannot be read as a run: {type(reason).__name__} {reason}. Remove the "
            "folder and score the checkpoint again."
        ) from reason
    if not card.attacks:
        raise UserError(f"{folder} holds no attack. Remove the folder and score again.")
    return card


def _require_one_measurement(entry: Entry) -> None:
    """The runs of a row met the same images and attacks, each with a training seed of its own.

    Raises:
        UserError: they did not.
    """
    apart = "Score them alike, or give each a row of its own."
    first, *others = entry.runs
    for other in others:
        if images_of(first) != images_of(other):
            raise UserError(
                f"the runs of {entry.name} were not scored on the same images within the same ε. "
                f"{apart}"
            )
        for attack in entry.attacks:
            if first.manifest["attacks"][attack] != other.manifest["attacks"][attack]:
                raise UserError(
                    f"the runs of {entry.name} met {attack} with other constants. {apart}"
                )
    if not entry.attacks:
        raise UserError(f"the runs of {entry.name} share no attack. {apart}")
    known = [seed for seed in entry.seeds if seed is not None]
    if len(set(known)) < len(known):
        raise UserError(
            f"{entry.name} holds more than one run of a training seed "
            f"({', '.join(map(str, known))}). Give one of each."
        )


def _require_once(folders: Sequence[Path]) -> None:
    times = Counter(folder.resolve() for folder in folders)
    if twice := [folder for folder, count in times.items() if count > 1]:
        raise UserError(f"{twice[0]} is given more than once. Give each run one time.")


def _names(rows: Sequence[_Row], sides: Sequence[Side]) -> list[str]:
    """What the user calls a row, else a name of its own.

    Raises:
        UserError: the user gave a name twice.
    """
    given = Counter(row.name for row in rows if row.name)
    if twice := [name for name, times in given.items() if times > 1]:
        raise UserError(f"the name {twice[0]!r} is given to two rows. Give each its own.")
    others = [side for row, side in zip(rows, sides, strict=True) if not row.name]
    found = iter(with_own_names(others))
    names = [row.name or next(found).name for row in rows]
    return [
        name if row.name or name not in given else ", ".join(map(str, row.folders))
        for name, row in zip(names, rows, strict=True)
    ]


def _manifest(folder: Path) -> Mapping[str, Any]:
    try:
        manifest = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UserError(f"{folder / RECORD} cannot be read: {reason}.") from reason
    return manifest if isinstance(manifest, dict) else {}
