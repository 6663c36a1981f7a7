"""Runs under one name: one network, or a method's networks of several training seeds. No torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from ferd_eval.errors import UserError
from ferd_eval.results.digests import require_unaltered
from ferd_eval.results.manifest import RECORD, look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import find_runs, seed_of, to_type

#: One network, or the networks of a method: run folders, folders of runs, or runs in memory.
Side = str | Path | Outcomes | Sequence[str | Path | Outcomes]

#: What the sides of a comparison are called where a run in memory has no name of its own.
_PLACES = ("first", "second", "reference")


@dataclass(frozen=True, eq=False)
class RunGroup:
    """One run, or several runs of one method that differ in the training seed."""

    name: str  #: as reports print it; groups read together have distinct names
    folders: tuple[Path, ...]  #: as given; those below one folder by name
    runs: tuple[Outcomes, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Training seeds, as recorded or else named by the path; None where unknown."""
        return tuple(
            seed_of(folder, run.manifest)
            for folder, run in zip(self.folders, self.runs, strict=True)
        )

    @property
    def recorded_seeds(self) -> tuple[int, ...] | None:
        """Training seeds; None where a run does not record one."""
        seeds = [look_up(run.manifest, "checkpoint.recipe.seed") for run in self.runs]
        known = tuple(seed for seed in seeds if isinstance(seed, int))
        return known if len(known) == len(seeds) else None

    @property
    def teachers(self) -> tuple[tuple[str | None, str | None], ...]:
        """Each network's teacher: SHA-256 of its file and its key in it; None where unknown."""
        return tuple(
            (
                look_up(run.manifest, "checkpoint.teacher_sha256"),
                look_up(run.manifest, "checkpoint.teacher_key"),
            )
            for run in self.runs
        )

    @property
    def attacks(self) -> tuple[str, ...]:
        """Attacks that all runs were scored under, in the order of the first run."""
        first, *others = self.runs
        return tuple(a for a in first.attacks if all(a in other.attacks for other in others))

    def in_order(self, places: Sequence[int]) -> Self:
        return replace(
            self,
            folders=tuple(self.folders[i] for i in places),
            runs=tuple(self.runs[i] for i in places),
        )


def read_run_groups(sides: Sequence[Side]) -> tuple[RunGroup, ...]:
    """Read the sides of a comparison and give them distinct names.

    A side is a run folder, a folder of runs, run folders joined by commas, `Outcomes`, or a
    sequence of folders or of Outcomes. UserError: a folder is no run, a side mixes several kinds of
    networks, or two sides are the same runs.
    """
    words = [
        str(side) if isinstance(side, str | Path) else f"the {place}"
        for side, place in zip(sides, _PLACES, strict=False)
    ]
    groups = [_read(side, place) for side, place in zip(sides, _PLACES, strict=False)]
    for i, group in enumerate(groups):
        for earlier, word in zip(groups[:i], words, strict=False):
            same = [*map(id, earlier.runs)] == [*map(id, group.runs)]
            if {*earlier.folders} == {*group.folders} or same:
                raise UserError(
                    f"{word} and {words[i]} are the same. Give two different runs to compare."
                )
    return with_distinct_names(groups)


def read_run_group(folders: Sequence[Path], word: str) -> RunGroup:
    """Read the runs of one group from absolute folders; messages name the user's `word` for it.

    UserError: a folder is no finished run or given twice, or the runs are not of one method.
    """
    twice = [folder for folder, times in Counter(folders).items() if times > 1]
    if twice:
        raise UserError(f"{twice[0]} is given more than once on one side. Give each run once.")
    runs = [Outcomes.load(folder) for folder in folders]
    for folder in folders:
        require_unaltered(folder)
    return _group(folders, runs, word)


def _group(folders: Sequence[Path], runs: Sequence[Outcomes], word: str) -> RunGroup:
    for folder, run in zip(folders, runs, strict=True):
        _require_finished(folder, run)
    group = RunGroup(_name(folders, runs), tuple(folders), tuple(runs))
    _require_one_method(group, word)
    return group


def with_distinct_names(groups: Sequence[RunGroup]) -> tuple[RunGroup, ...]:
    """Rename groups that share a name after the differing part of their folders' paths."""
    times = Counter(group.name for group in groups)
    alike = [group for group in groups if times[group.name] > 1]
    if not alike:
        return tuple(groups)
    paths = [_shared(group.folders).parts for group in alike]
    start = _alike_at_start(paths)
    differing = [path[start:] for path in paths]
    end = _alike_at_start([path[::-1] for path in differing])
    by_path = ["/".join(path[: len(path) - end]) for path in differing]
    by_name = [_listed(group.folders) for group in alike]
    in_full = [", ".join(map(str, group.folders)) for group in alike]
    distinct = (names for names in (by_path, by_name) if all(names) and len({*names}) == len(names))
    found = dict(zip(map(id, alike), next(distinct, in_full), strict=True))
    return tuple(replace(group, name=found.get(id(group), group.name)) for group in groups)


def _read(side: Side, place: str) -> RunGroup:
    parts = [side] if isinstance(side, str | Path | Outcomes) else list(side)
    runs = [part for part in parts if isinstance(part, Outcomes)]
    if runs and len(runs) == len(parts):
        folders = [Path(place) if len(runs) == 1 else Path(place, str(i)) for i in range(len(runs))]
        return _group(folders, runs, f"the {place}")
    paths = [part for part in parts if isinstance(part, str | Path)]
    if not paths or len(paths) < len(parts):
        raise UserError(f"the {place} is no run. Give folders of runs, or Outcomes, but not both.")
    if isinstance(side, str) and not Path(side).exists():  # a folder may have a comma in its name
        paths = [part.strip() for part in side.split(",") if part.strip()] or [side]
    found = [run.resolve() for path in paths for run in find_runs(Path(path)).without_teachers()]
    return read_run_group(found, ", ".join(map(str, parts)))


def _require_finished(folder: Path, run: Outcomes) -> None:
    status = run.manifest.get("status")
    if status != "finished":
        raise UserError(f"{folder} is not finished (status {status}). Repeat its score command.")
    names = look_up(run.manifest, "dataset.class_names")
    if not isinstance(names, list | tuple) or not isinstance(run.manifest["attacks"], dict):
        raise UserError(f"{folder / RECORD} is not a run's manifest. Give another folder.")


def _require_one_method(group: RunGroup, word: str) -> None:
    """Runs of one method share architecture and recipe, but not the weights."""
    first = group.runs[0]
    for run, folder in zip(group.runs[1:], group.folders[1:], strict=True):
        for what, path in (("architecture", "model.architecture"), ("recipe", "checkpoint.recipe")):
            ours, theirs = (_without_seed(look_up(each.manifest, path)) for each in (first, run))
            if ours is None or theirs is None or ours == theirs:
                continue
            if isinstance(ours, dict) and isinstance(theirs, dict):
                what = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
                ours, theirs = ours.get(what), theirs.get(what)
            raise UserError(
                f"{word} holds networks of several kinds: {what} is {ours} in "
                f"{group.folders[0].name} and {theirs} in {folder.name}. Name the runs of one "
                f"method: {to_type(group.folders)}."
            )
    seen: dict[tuple[str, str], Path] = {}
    for folder, run in zip(group.folders, group.runs, strict=True):
        digest = look_up(run.manifest, "checkpoint.sha256")
        if digest is None:
            continue
        # One file may hold several networks.
        network = digest, look_up(run.manifest, "checkpoint.key") or ""
        if network in seen:
            raise UserError(
                f"{seen[network]} and {folder} are runs of one checkpoint, which is one training "
                f"seed. Name one of them: {to_type(group.folders)}."
            )
        seen[network] = folder


def _without_seed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key != "seed"}


def _name(folders: Sequence[Path], runs: Sequence[Outcomes]) -> str:
    """The checkpoint's name; of several runs, that of the deepest folder they share."""
    if len(folders) == 1:
        return str(look_up(runs[0].manifest, "checkpoint.name") or folders[0].name)
    return _shared(folders).name or _listed(folders)


def _shared(folders: Sequence[Path]) -> Path:
    """The deepest folder that holds them all; of one, itself."""
    return Path(os.path.commonpath(folders))


def _alike_at_start(paths: Sequence[Sequence[str]]) -> int:
    """Number of leading parts that all share."""
    return sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False)))


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
