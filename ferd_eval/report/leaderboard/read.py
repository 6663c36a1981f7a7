"""``RUN...`` of a leaderboard: which folders make one row, and the row's name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ferd_eval.errors import UserError
from ferd_eval.metrics import Scorecard, scorecard
from ferd_eval.metrics.comparison.circumstances import circumstances, network
from ferd_eval.report.leaderboard.model import ScoredGroup, images_of
from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import (
    RunFolders,
    by_method,
    find_runs,
    record_in,
    say_left_out,
)
from ferd_eval.results.run_group import RunGroup, read_run_group, with_distinct_names

#: Folders, each as the command takes it, or the folders of each row by its name.
Rows = Sequence[Path | str] | Mapping[str, Sequence[Path | str]]


def read_scored_groups(arguments: Rows, *, group_seeds: bool) -> list[ScoredGroup]:
    """Read each argument: a run, a folder of runs, or ``NAME=A,B,C`` over training seeds.

    Unfinished runs, and runs of one network scored alike, are left out with a remark.

    Returns:
        The rows, in the order given.

    Raises:
        UserError: there is no such run, it cannot be read, or runs of one row do not belong
            together.
    """
    if isinstance(arguments, Mapping):
        asked = [_one_row(name, folders) for name, folders in arguments.items()]
    else:
        asked = [_parse(str(argument)) for argument in arguments]
    each_a_row = [those for each in asked if not each.one_row for those in each.found]
    twins = _twins([run for those in each_a_row if not those.is_one_run for run in those.runs])
    for run, other in twins.items():
        say_left_out(run, f"is of the same network as {other}, scored alike")
    rows: list[tuple[str, tuple[Path, ...]]] = []
    for each in asked:
        if each.one_row:
            folders = (run for those in each.found for run in those.without_teachers())
            rows.append((each.name, tuple(folders)))
        else:
            runs = [run for those in each.found for run in those.runs if run not in twins]
            rows += [("", of) for of in (by_method(runs) if group_seeds else [(r,) for r in runs])]
    times = Counter(folder.resolve() for _, folders in rows for folder in folders)
    if twice := [folder for folder, count in times.items() if count > 1]:
        raise UserError(f"{twice[0]} is given more than once. Give each run one time.")
    groups = [_group(folders, name or str(folders[0])) for name, folders in rows]
    names = _names(rows, groups)
    scored = [
        _scored(name, folders, group)
        for name, (_, folders), group in zip(names, rows, groups, strict=True)
    ]
    for each in asked:
        for folder in (folder for those in each.found for folder in those.unfinished):
            say_left_out(folder, "is an unfinished run")
    return scored


def read_scored_group(name: str, folders: Sequence[Path]) -> ScoredGroup:
    """Read one row whose name and runs are known.

    Raises:
        UserError: a run cannot be read, or the runs do not belong together.
    """
    return _scored(name, folders, _group(folders, name))


class _Argument(NamedTuple):
    """Name (or empty), content of its folders, and whether they are one row."""

    name: str
    found: Sequence[RunFolders]
    one_row: bool


def _parse(argument: str) -> _Argument:
    if Path(argument).exists():
        return _Argument("", [find_runs(Path(argument))], one_row=False)
    name, equals, rest = argument.partition("=")
    if not equals:
        name, rest = "", argument
    elif not name.strip() or not rest.strip():
        raise UserError(f"{argument!r} lacks a name or a folder. Write NAME=FOLDER,FOLDER.")
    folders = [rest] if Path(rest).exists() else [part for part in rest.split(",") if part]
    if equals or len(folders) > 1:
        return _one_row(name.strip(), folders)
    return _Argument("", [find_runs(Path(folder)) for folder in folders], one_row=False)


def _one_row(name: str, folders: Sequence[Path | str]) -> _Argument:
    return _Argument(name, [find_runs(Path(folder)) for folder in folders], one_row=True)


def _twins(folders: Sequence[Path]) -> dict[Path, Path]:
    """Run → another one of the same network, scored alike or under more attacks.

    Two students' reports hold the same teacher, which would tie with itself.
    """
    by_network: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
    for folder in folders:
        record = record_in(folder)
        if network(record) is not None:
            alike = [network(record), look_up(record, "dataset.fingerprint"), circumstances(record)]
            key = json.dumps(alike, sort_keys=True, default=str)
            by_network.setdefault(key, []).append((folder, record["attacks"]))
    found: dict[Path, Path] = {}
    for those in by_network.values():
        for i, (folder, attacks) in enumerate(those):
            for j, (other, more) in enumerate(those):
                covered = isinstance(attacks, dict) and isinstance(more, dict)
                covered = covered and attacks.items() <= more.items()
                if covered and (len(more) > len(attacks) or j < i):
                    found.setdefault(folder, other)
    return found


def _group(folders: Sequence[Path], word: str) -> RunGroup:
    return read_run_group([folder.resolve() for folder in folders], word)


def _scored(name: str, folders: Sequence[Path], group: RunGroup) -> ScoredGroup:
    """The group with its scorecards, in the order of the seeds."""
    cards = [_card(folder, run) for folder, run in zip(folders, group.runs, strict=True)]
    seeds = group.seeds
    order = sorted(range(len(seeds)), key=lambda i: (seeds[i] is None, seeds[i] or 0))
    group = group.in_order(order)
    scored = ScoredGroup(name, group.folders, group.runs, tuple(cards[i] for i in order))
    _require_one_measurement(scored)
    return scored


def _card(folder: Path, run: Outcomes) -> Scorecard:
    """Figures of a run; refuse a damaged record or table by its name."""
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


def _require_one_measurement(group: ScoredGroup) -> None:
    """Refuse a row whose runs met other images or attacks, or share a training seed."""
    apart = "Score them alike, or give each a row of its own."
    first, *others = (run.manifest["attacks"] for run in group.runs)
    if any(group.images != images_of(run) for run in group.runs[1:]):
        raise UserError(
            f"the runs of {group.name} were not scored on the same images within the same ε. "
            f"{apart}"
        )
    for attack in group.attacks:
        if any(first[attack] != other[attack] for other in others):
            raise UserError(f"the runs of {group.name} met {attack} with other constants. {apart}")
    if not group.attacks:
        raise UserError(f"the runs of {group.name} share no attack. {apart}")
    known = [seed for seed in group.seeds if seed is not None]
    if len(set(known)) < len(known):
        raise UserError(
            f"{group.name} holds more than one run of a training seed "
            f"({', '.join(map(str, known))}). Give one of each."
        )


def _names(rows: Sequence[tuple[str, Sequence[Path]]], groups: Sequence[RunGroup]) -> list[str]:
    """The user's name of each row, else a distinct one; refuse a name given twice."""
    given = Counter(name for name, _ in rows if name)
    if twice := [name for name, times in given.items() if times > 1]:
        raise UserError(f"the name {twice[0]!r} is given to two rows. Give each its own.")
    unnamed = [group for (name, _), group in zip(rows, groups, strict=True) if not name]
    found = iter(with_distinct_names(unnamed))
    names = []
    for name, folders in rows:
        own = name or next(found).name
        names.append(own if name or own not in given else ", ".join(map(str, folders)))
    return names
