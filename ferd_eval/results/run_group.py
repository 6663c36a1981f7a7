"""The sides of a comparison: one network each, or several of one method. No torch on this path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.results.manifest import RECORD, look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import find_runs, to_type


@dataclass(frozen=True, eq=False)
class Side:
    """One run, or several runs of one method that differ by their training seed.

    Attributes:
        name: what reports call it; sides read together have names of their own.
        folders, runs: in the order given, those in one folder in the order of their names.
    """

    name: str
    folders: tuple[Path, ...]
    runs: tuple[Outcomes, ...]

    @property
    def training_seeds(self) -> tuple[int, ...] | None:
        """Seeds the networks were trained with; None where a run does not record one."""
        seeds = [look_up(run.manifest, "checkpoint.recipe.seed") for run in self.runs]
        known = tuple(seed for seed in seeds if isinstance(seed, int))
        return known if len(known) == len(seeds) else None

    @property
    def teachers(self) -> tuple[tuple[str | None, str | None], ...]:
        """What each network was distilled from, None where it does not say.

        SHA-256 of the file, and which network of it where it holds several.
        """
        return tuple(
            (
                look_up(run.manifest, "checkpoint.teacher_sha256"),
                look_up(run.manifest, "checkpoint.teacher_key"),
            )
            for run in self.runs
        )

    def in_order(self, places: Sequence[int]) -> Side:
        """The same runs in another order."""
        return replace(
            self,
            folders=tuple(self.folders[i] for i in places),
            runs=tuple(self.runs[i] for i in places),
        )


def read_sides(words: Sequence[str]) -> tuple[Side, ...]:
    """Read the sides of a comparison and give each a name of its own.

    Args:
        words: for each side a run folder, a folder of runs, or several run folders joined by
            commas.

    Raises:
        UserError: a folder is no run, a side mixes networks of several kinds, or two sides are
            the same runs.
    """
    sides = [_read(word) for word in words]
    for i, side in enumerate(sides):
        for earlier, word in zip(sides[:i], words, strict=False):
            if {*earlier.folders} == {*side.folders}:
                raise UserError(
                    f"{word} and {words[i]} are the same. Give two different runs to compare."
                )
    return with_own_names(sides)


def _read(word: str) -> Side:
    folders = [run for part in _parts(word) for run in find_runs(part).without_teachers()]
    return read_side([folder.resolve() for folder in folders], word)


def read_side(folders: Sequence[Path], word: str) -> Side:
    """Read the runs of one side.

    Args:
        folders: absolute, of one run each.
        word: what the user calls them, for messages.

    Raises:
        UserError: a folder is no run or given twice, or the runs are not of one method.
    """
    twice = [folder for folder in dict.fromkeys(folders) if folders.count(folder) > 1]
    if twice:
        raise UserError(f"{twice[0]} is given more than once on one side. Give each run once.")
    runs = tuple(Outcomes.load(folder) for folder in folders)
    for folder, run in zip(folders, runs, strict=True):
        _require_finished(folder, run)
    side = Side(_name(folders, runs), tuple(folders), runs)
    _require_one_method(side, word)
    return side


def _require_finished(folder: Path, run: Outcomes) -> None:
    status = run.manifest.get("status")
    if status != "finished":
        raise UserError(f"{folder} is not finished (status {status}). Repeat its score command.")
    names = look_up(run.manifest, "dataset.class_names")
    if not isinstance(names, list | tuple) or not isinstance(run.manifest["attacks"], dict):
        raise UserError(f"{folder / RECORD} is not a run's manifest. Give another folder.")


def _parts(word: str) -> list[Path]:
    """A folder may have a comma in its name."""
    if Path(word).exists():
        return [Path(word)]
    return [Path(part.strip()) for part in word.split(",") if part.strip()] or [Path(word)]


def _require_one_method(side: Side, word: str) -> None:
    """Several runs are seeds of one method: same architecture, same recipe, other weights."""
    first = side.runs[0]
    for run, folder in zip(side.runs[1:], side.folders[1:], strict=True):
        for what, path in (("architecture", "model.architecture"), ("recipe", "checkpoint.recipe")):
            ours, theirs = (_of_method(each, path) for each in (first, run))
            if ours is None or theirs is None or ours == theirs:
                continue
            if isinstance(ours, dict) and isinstance(theirs, dict):
                what, ours, theirs = _first_difference(ours, theirs)
            raise UserError(
                f"{word} holds networks of several kinds: {what} is {ours} in "
                f"{side.folders[0].name} and {theirs} in {folder.name}. Name the runs of one "
                f"method: {to_type(side.folders)}."
            )
    # One file may hold several networks.
    digests = [
        (look_up(run.manifest, "checkpoint.sha256"), look_up(run.manifest, "checkpoint.key") or "")
        for run in side.runs
    ]
    for i, digest in enumerate(digests):
        if digest[0] is not None and digest in digests[:i]:
            raise UserError(
                f"{side.folders[digests.index(digest)]} and {side.folders[i]} are runs of one "
                f"checkpoint, which is one training seed. Name one of them: "
                f"{to_type(side.folders)}."
            )


def _of_method(run: Outcomes, path: str) -> Any:
    """What all seeds of a method share."""
    value = look_up(run.manifest, path)
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key != "seed"}
    return value


def _first_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, Any, Any]:
    key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
    return key, ours.get(key), theirs.get(key)


def _name(folders: Sequence[Path], runs: Sequence[Outcomes]) -> str:
    """The checkpoint's, or of several runs that of the folder they share."""
    if len(folders) == 1:
        recorded = look_up(runs[0].manifest, "checkpoint.name")
        return str(recorded or folders[0].name)
    return _shared(folders).name or _listed(folders)


def _shared(folders: Sequence[Path]) -> Path:
    """The deepest folder that holds them all; of one, itself."""
    parts = [folder.parts for folder in folders]
    count = _same_from_start(parts)
    return Path(*parts[0][:count]) if count else Path()


def with_own_names(sides: Sequence[Side]) -> tuple[Side, ...]:
    """Names as they are where they differ; else by what differs in the paths of their folders."""
    names = [side.name for side in sides]
    if len({*names}) == len(names):
        return tuple(sides)
    alike = [side for side in sides if names.count(side.name) > 1]
    parts = [_shared(side.folders).parts for side in alike]
    start = _same_from_start(parts)
    end = _same_from_start([each[start:][::-1] for each in parts])
    by_path = ["/".join(each[start : len(each) - end]) for each in parts]
    if not all(by_path) or len({*by_path}) < len(by_path):
        by_path = [_listed(side.folders) for side in alike]
    if len({*by_path}) < len(by_path):
        by_path = [", ".join(map(str, side.folders)) for side in alike]
    found = dict(zip(map(id, alike), by_path, strict=True))
    return tuple(replace(side, name=found.get(id(side), side.name)) for side in sides)


def _same_from_start(parts: Sequence[Sequence[str]]) -> int:
    """Number of leading parts that all share."""
    count = 0
    for together in zip(*parts, strict=False):
        if len({*together}) > 1:
            break
        count += 1
    return count


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(folder.name for folder in folders)
