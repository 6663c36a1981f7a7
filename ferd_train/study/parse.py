"""Reads a study file: TOML to a typed study, or one line on the mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.evaluation.config import EvalConfig, parse_config
from ferd_eval.io.toml import parse_toml
from ferd_train.config.recipe import flattened
from ferd_train.distillation.teacher import TeacherReading
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import (
    TEACHER,
    Evaluation,
    MethodRow,
    Study,
    TeacherSource,
    Trial,
    folder_name,
)

V = TypeVar("V")

_KEYS = (
    "title", "dataset", "seeds", "out", "baseline", "score_teachers", "set", "skip", "only",
    "teachers", "methods", "losses", "evaluations",
)  # fmt: skip

#: Fields of `EvalConfig` that an evaluation may set.
_MEASUREMENT = (
    "attacks", "eps", "steps", "step_size", "limit", "per_class", "batch_size", "precision",
    "engine", "seed", "groups", "classes", "class_order", "search_precision",
    "fold_batchnorm", "save_adv",
)  # fmt: skip

#: File systems take names of up to 255 bytes, and an odd character takes up to twelve.
_LONGEST_NAME, _LONGEST_FOLDER = 60, 200

#: Default parent of studies' folders.
_RUNS = Path("reports/runs")


@dataclass(frozen=True)
class _Section:
    """A table of the file; messages begin with its place."""

    values: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: Any, where: str, known: Iterable[str] | None = None) -> _Section:
        """A table with known keys, or with any if these are None."""
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; write a table, [{where}].")
        for key in value:
            if known is not None and key not in known:
                raise UserError(f"{where} has no {key!r}.{did_you_mean(key, known)}")
        return cls(value, where)

    def get(self, key: str, default: V) -> V:
        """A text or a truth value, of the default's type."""
        value = self.values.get(key, default)
        if type(value) is not type(default):
            wanted = "true or false" if isinstance(default, bool) else "a text"
            place = key if self.where == "a study" else f"{self.where}.{key}"
            raise UserError(f"{place} is {value!r}; give {wanted}.")
        return value

    def named(self, key: str) -> Mapping[str, Any]:
        """The entries of a section whose keys are the user's own names."""
        entries = _Section.of(self.values.get(key, {}), key).values
        for name in entries:
            if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
                raise UserError(
                    f"{key} has the name {name!r}; give 1 to {_LONGEST_NAME} printable characters."
                )
        return entries

    def changes(self, where: str) -> dict[str, Any]:
        """Fields of recipes under ``set``, by dotted name."""
        return flattened(_Section.of(self.values.get("set", {}), where).values)


def read_study(file: Path) -> Study:
    """Read a study with all its recipes. Paths are relative to the file's folder.

    Raises:
        UserError: something in it is wrong; the message names the place.
    """
    try:
        content = parse_toml(file)
    except OSError as reason:
        raise UserError(
            f"study {file} cannot be read ({reason.strerror}); give a TOML file (docs/studies.md)."
        ) from reason
    except ValueError as reason:
        raise UserError(f"study {file} is no TOML ({reason}); mend that line.") from reason
    try:
        return _study(file, content)
    except UserError as reason:
        raise UserError(f"{file}: {reason}") from reason


def _study(file: Path, content: Mapping[str, Any]) -> Study:
    top, folder = _Section.of(content, "a study", _KEYS), file.parent
    for needed in ("dataset", "seeds", "teachers", "methods", "evaluations"):
        if not content.get(needed):
            raise UserError(f"{needed} is missing; docs/studies.md has an example.")
    title, dataset = top.get("title", file.stem), top.get("dataset", "")
    seeds = _seeds(content["seeds"])
    teachers = tuple(_teacher(name, each, folder) for name, each in top.named("teachers").items())
    rows = tuple(_rows(top, seeds[0], folder))
    row_names = [row.name for row in rows]
    _require_own_folders([each.name for each in teachers], "teachers", taken=("report",))
    _require_own_folders(row_names, "methods and losses", taken=(TEACHER,))
    baseline = top.get("baseline", row_names[0])
    if baseline not in row_names:
        raise UserError(
            f"baseline: no row is called {baseline!r}.{did_you_mean(baseline, row_names)}"
        )
    students = [Trial(teacher, row, seed) for seed, teacher, row in product(seeds, teachers, rows)]
    trials = [Trial(teacher) for teacher in teachers] if top.get("score_teachers", True) else []
    trials += filter(_selection(content, students), students)
    used = [row for row in rows if any(trial.row == row for trial in trials)]
    if not used:
        raise UserError("skip and only leave no student to train; let some in.")
    own_out = folder / top.get("out", "") if "out" in content else None
    return Study(
        file=file,
        title=title,
        dataset=dataset,
        out=own_out or _RUNS / f"study-{file.stem}",
        seeds=seeds,
        teachers=teachers,
        rows=rows,
        evaluations=tuple(_evaluations(top, _from_folder(dataset, folder), used)),
        baseline=baseline,
        trials=tuple(trials),
    )


def _teacher(name: str, given: Any, folder: Path) -> TeacherSource:
    """A path or ``demo``, or a table with how to read the file."""
    where = f"teachers.{name}"
    table = {"checkpoint": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise UserError(f"{where} is {given!r}; give a checkpoint's path, or demo.")
    section = _Section.of(table, where, ("checkpoint", "arch", "model_file", "normalize", "key"))
    values = {key: section.get(key, "") for key in table}
    checkpoint = values.pop("checkpoint", "")
    if not checkpoint:
        raise UserError(f"{where}.checkpoint is missing; give a path, or demo.")
    if checkpoint != "demo":
        checkpoint = str(folder / checkpoint)
    if "model_file" in values:
        values["model_file"] = str(folder / values["model_file"])
    return TeacherSource(name, checkpoint, TeacherReading(**values))


def _rows(top: _Section, seed: int, folder: Path) -> Iterable[MethodRow]:
    losses, for_all = top.named("losses"), top.changes("set")
    for method, given in top.named("methods").items():
        where = f"methods.{method}"
        section = _Section.of(given, where, ("recipe", "set"))
        name, recipe = _recipe(section, folder)
        of_method = section.changes(f"{where}.set")
        for loss, settings in losses.items() or [("", {})]:
            of_loss = _Section.of(settings, f"losses.{loss}", ("set",))
            changes = {**for_all, **of_method, **of_loss.changes(f"losses.{loss}.set")}
            row = MethodRow(method, loss, recipe, name, tuple(changes))
            try:
                yield replace(row, recipe=recipe.with_changes({**changes, "seed": seed}))
            except UserError as reason:
                raise UserError(f"{row.where}: {reason}") from reason


def _recipe(section: _Section, folder: Path) -> tuple[str, StudentRecipe]:
    """A method's recipe and the name it was given by."""
    name = section.get("recipe", "")
    if not name:
        raise UserError(
            f"{section.where}.recipe is missing; give a name of ferd-train ls, or FILE.toml."
        )
    try:
        found = find_student_recipe(str(folder / name) if name.endswith(".toml") else name)
    except UserError as reason:
        raise UserError(f"{section.where}: {reason}") from reason
    return name, found


def _evaluations(top: _Section, dataset: str, rows: Sequence[MethodRow]) -> Iterable[Evaluation]:
    tables = top.named("evaluations")
    for name, given in tables.items():
        where = f"evaluations.{name}"
        values = parse_config(_Section.of(given, where).values, where)
        _Section.of(values, where, _MEASUREMENT)
        if "eps" not in values:
            values["eps"] = _common_eps(rows, where)
        try:
            yield Evaluation(name, EvalConfig(dataset=dataset, **values))
        except UserError as reason:
            raise UserError(f"{where}: {reason}") from reason
    _require_own_folders([*tables], "evaluations", taken=("run", "log.txt", "failure.json"))


def _common_eps(rows: Sequence[MethodRow], where: str) -> str:
    """The eps that all students are trained for."""
    by_eps = {row.recipe.eps: row for row in rows}
    if len(by_eps) > 1:
        (first, one), (second, other), *_ = by_eps.items()
        raise UserError(
            f"{where}: {one.where} trains for eps {first}, {other.where} for {second}; say which "
            'to attack all with, e.g. eps = "8/255".'
        )
    return str(rows[0].recipe.eps)


def _selection(content: Mapping[str, Any], students: Sequence[Trial]) -> Callable[[Trial], bool]:
    """Which students ``skip`` and ``only`` leave."""
    all_own = [_properties(each) for each in students]
    known = {key: [own[key] for own in all_own] for key in all_own[0]}
    skip, only = (_patterns(content, name, known) for name in ("skip", "only"))

    def fits(trial: Trial, pattern: Mapping[str, Sequence[Any]]) -> bool:
        own = _properties(trial)
        return all(own[key] in values for key, values in pattern.items())

    def wanted(trial: Trial) -> bool:
        if only and not any(fits(trial, pattern) for pattern in only):
            return False
        return not any(fits(trial, pattern) for pattern in skip)

    return wanted


def _properties(trial: Trial) -> dict[str, Any]:
    """By which a student may be selected."""
    assert trial.row is not None
    return {
        "teachers": trial.teacher.name,
        "methods": trial.row.method,
        "losses": trial.row.loss,
        "seeds": trial.seed,
    }


def _patterns(
    content: Mapping[str, Any], name: str, known: Mapping[str, Sequence[Any]]
) -> list[Mapping[str, Sequence[Any]]]:
    """Properties of trials with their allowed values; those left out may be any."""
    given = content.get(name, [])
    if not isinstance(given, list):
        raise UserError(f'{name} is {given!r}; give a list such as [{{ methods = ["a"] }}].')
    patterns = [
        _Section.of(item, f"{name}, entry {place}", known) for place, item in enumerate(given, 1)
    ]
    for pattern in patterns:
        for key, values in pattern.values.items():
            if not isinstance(values, list):
                raise UserError(f"{pattern.where}: {key} is {values!r}; give a list.")
            for value in values:
                if value not in known[key]:
                    raise UserError(
                        f"{pattern.where}: none of the {key} is {value!r}."
                        f"{did_you_mean(str(value), map(str, dict.fromkeys(known[key])))}"
                    )
    return [pattern.values for pattern in patterns]


def _from_folder(dataset: str, folder: Path) -> str:
    """A data set's name; the path in ``npz:PATH`` and the like is relative to the folder."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{folder / path}" if colon else dataset


def _seeds(given: Any) -> tuple[int, ...]:
    is_list = isinstance(given, list) and all(type(seed) is int for seed in given)
    if not is_list or len({*given}) < len(given):
        raise UserError(
            f"seeds is {given!r}; give a list of different numbers from 0 on, such as [0, 1, 2]."
        )
    return tuple(given)


def _require_own_folders(names: Sequence[str], what: str, *, taken: Sequence[str]) -> None:
    """Also where capital letters make no difference."""
    seen = {each.casefold(): each for each in taken}
    for name in names:
        folder = folder_name(name).casefold()
        if len(folder) > _LONGEST_FOLDER:
            raise UserError(f"{what}: {name!r} is too long for a folder's name; shorten it.")
        if folder in seen:
            raise UserError(
                f"{what}: {name!r} and {seen[folder]!r} would share a folder; rename it."
            )
        seen[folder] = name
