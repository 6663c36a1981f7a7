"""``RUN...`` of a leaderboard: which folders are one row, and what the row is called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.metrics import Scorecard, scorecard
from ferd_eval.metrics.comparison.circumstances import circumstances, network
from ferd_eval.report.leaderboard import ScoredGroup
from ferd_eval.report.leaderboard.model import images_of
from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import by_method, find_runs, record_in, say_left_out
from ferd_eval.results.run_group import RunGroup, read_run_group, with_distinct_names


def read_entries(
    arguments: Sequence[str], *, group_seeds: bool
) -> tuple[list[ScoredGroup], tuple[Path, ...]]:
    """Read each argument: a run, a folder of runs, or ``NAME=A,B,C`` over training seeds.

    Returns:
        The rows, in the order given, and the folders left out because their run is unfinished.

    Raises:
        UserError: there is no such run, it cannot be read, or runs of one row do not belong
            together.
    """
    asked = [_parse(argument) for argument in arguments]
    found = [[find_runs(folder) for folder in folders] for _, folders, _ in asked]
    twins = _twins(
        [
            run
            for (_, _, one_row), each in zip(asked, found, strict=True)
            for those in each
            for run in those.runs
            if not (one_row or those.is_one_run)
        ]
    )
    for run, other in twins.items():
        say_left_out(run, f"is of the same network as {other}, scored alike")
    rows: list[_Row] = []
    for (name, _, one_row), each in zip(asked, found, strict=True):
        if one_row:
            rows.append(
                _Row(name, tuple(run for those in each for run in those.without_teachers()))
            )
            continue
        runs = [run for those in each for run in those.runs if run not in twins]
        grouped = by_method(runs) if group_seeds else [(run,) for run in runs]
        rows += [_Row("", those) for those in grouped]
    _require_once([folder for row in rows for folder in row.folders])
    sides = [
        read_run_group(
            [folder.resolve() for folder in row.folders], row.name or str(row.folders[0])
        )
        for row in rows
    ]
    names = _names(rows, sides)
    entries = [
        _entry(name, row.folders, side) for name, row, side in zip(names, rows, sides, strict=True)
    ]
    unfinished = tuple(run for each in found for those in each for run in those.unfinished)
    return entries, unfinished


def read_rows(rows: Sequence[tuple[str, Sequence[Path]]]) -> list[ScoredGroup]:
    """Read rows whose names and runs are known: one run, or several over training seeds.

    Raises:
        UserError: a run cannot be read, or runs of one row do not belong together.
    """
    return [
        _entry(name, folders, read_run_group([folder.resolve() for folder in folders], name))
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
        if not Path(folder).exists():
            raise UserError(f"there is no folder {folder}. Give the --out of a score command.")
    return name.strip(), [Path(folder) for folder in folders], bool(equals) or len(folders) > 1


def _twins(folders: Sequence[Path]) -> dict[Path, Path]:
    """Run → another one of the same network, scored alike or under more attacks.

    Two students' reports hold the same teacher, which would tie with itself.
    """
    by_network: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
    for folder in folders:
        record = record_in(folder)
        if network(record) is not None:
            by_network.setdefault(_scored_alike(record), []).append((folder, record["attacks"]))
    found: dict[Path, Path] = {}
    for alike in by_network.values():
        for i, (folder, attacks) in enumerate(alike):
            for j, (other, more) in enumerate(alike):
                covered = isinstance(attacks, dict) and isinstance(more, dict)
                covered = covered and attacks.items() <= more.items()
                if covered and (len(more) > len(attacks) or j < i):
                    found.setdefault(folder, other)
    return found


def _scored_alike(record: Mapping[str, Any]) -> str:
    """What makes two runs say the same of the attacks that both hold."""
    said = [network(record), look_up(record, "dataset.fingerprint"), circumstances(record)]
    return json.dumps(said, sort_keys=True, default=str)


def _entry(name: str, folders: Sequence[Path], side: RunGroup) -> ScoredGroup:
    seeds = side.seeds
    order = sorted(range(len(seeds)), key=lambda i: (seeds[i] is None, seeds[i] or 0))
    cards = [_scored(folder, run) for folder, run in zip(folders, side.runs, strict=True)]
    side = side.in_order(order)
    entry = ScoredGroup(name, side.folders, side.runs, tuple(cards[i] for i in order))
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


def _require_one_measurement(entry: ScoredGroup) -> None:
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


def _names(rows: Sequence[_Row], sides: Sequence[RunGroup]) -> list[str]:
    """What the user calls a row, else a name of its own.

    Raises:
        UserError: the user gave a name twice.
    """
    given = Counter(row.name for row in rows if row.name)
    if twice := [name for name, times in given.items() if times > 1]:
        raise UserError(f"the name {twice[0]!r} is given to two rows. Give each its own.")
    others = [side for row, side in zip(rows, sides, strict=True) if not row.name]
    found = iter(with_distinct_names(others))
    names = [row.name or next(found).name for row in rows]
    return [
        name if row.name or name not in given else ", ".join(map(str, row.folders))
        for name, row in zip(names, rows, strict=True)
    ]
