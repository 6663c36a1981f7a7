"""Reads a study file: TOML to a typed study, or one line on what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.evaluation.config import EvalConfig, parse_config
from ferd_eval.io.toml import parse_toml
from ferd_train.config.recipe import flattened
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import (
    TEACHER,
    Cell,
    Evaluation,
    Row,
    Study,
    TeacherSource,
    folder_name,
)

_KEYS = (
    "title", "dataset", "seeds", "out", "baseline", "score_teachers", "set", "skip", "only",
    "teachers", "methods", "losses", "evaluations",
)  # fmt: skip

#: Fields of a scoring job that an evaluation may choose; the others are not its to say.
_MEASUREMENT = (
    "attacks", "eps", "steps", "step_size", "limit", "per_class", "batch_size", "precision",
    "engine", "seed", "groups", "classes", "class_order", "fold_batchnorm", "save_adv",
)  # fmt: skip

_LONGEST_NAME = 60

#: File systems take names of up to 255 bytes, and an odd character takes up to twelve.
_LONGEST_FOLDER = 200

#: Where studies go when nobody says otherwise.
_RUNS = Path("reports/runs")


def read_study(file: Path) -> Study:
    """Read and resolve a study: every recipe is looked up and changed as asked.

    Paths in it are as seen from its own folder.

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
    _require_known(content, _KEYS, "a study")
    for needed in ("dataset", "seeds", "teachers", "methods", "evaluations"):
        if not content.get(needed):
            raise UserError(f"{needed} is missing; docs/studies.md has an example.")
    title = _value(content, "title", str, file.stem)
    dataset = _value(content, "dataset", str, "")
    seeds = _seeds(content["seeds"], "seeds")
    teachers = tuple(
        _teacher(name, given, file.parent) for name, given in _tables(content, "teachers").items()
    )
    rows = _rows(content, seeds[0], file.parent)
    _require_own_folders([each.name for each in teachers], "teachers", taken=("report",))
    _require_own_folders([row.name for row in rows], "methods and losses", taken=(TEACHER,))
    baseline = _value(content, "baseline", str, rows[0].name)
    if baseline not in [row.name for row in rows]:
        raise UserError(
            f"baseline: no row is called {baseline!r}."
            f"{did_you_mean(baseline, [row.name for row in rows])}"
        )
    wanted = _selection(content, teachers, rows, seeds)
    own = [Cell(teacher) for teacher in teachers]
    students = [Cell(teacher, row, seed) for seed, teacher, row in product(seeds, teachers, rows)]
    cells = [
        *(own if _value(content, "score_teachers", bool, True) else []),
        *(cell for cell in students if wanted(cell)),
    ]
    if not any(cell.row for cell in cells):
        raise UserError("skip and only leave no student to train; let some in.")
    used = [row for row in rows if any(cell.row == row for cell in cells)]
    return Study(
        file=file,
        title=title,
        dataset=dataset,
        out=file.parent / _value(content, "out", str, "")
        if "out" in content
        else _RUNS / f"study-{file.stem}",
        seeds=seeds,
        teachers=teachers,
        rows=rows,
        evaluations=_evaluations(content, _from_folder(dataset, file.parent), used),
        baseline=baseline,
        cells=tuple(cells),
    )


def _teacher(name: str, given: Any, folder: Path) -> TeacherSource:
    """A path or ``demo``, or a table with how to read the file."""
    where = f"teachers.{name}"
    table = {"checkpoint": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise UserError(f"{where} is {given!r}; give a checkpoint's path, or demo.")
    _require_known(table, ("checkpoint", "arch", "model_file", "normalize", "key"), where)
    for key, value in table.items():
        _require_type(value, str, f"{where}.{key}")
    if not table.get("checkpoint"):
        raise UserError(f"{where}.checkpoint is missing; give a path, or demo.")
    checkpoint = str(table["checkpoint"])
    return TeacherSource(
        name,
        checkpoint if checkpoint == "demo" else str(folder / checkpoint),
        table.get("arch"),
        str(folder / table["model_file"]) if "model_file" in table else None,
        table.get("normalize", "auto"),
        table.get("key"),
    )


def _rows(content: Mapping[str, Any], seed: int, folder: Path) -> tuple[Row, ...]:
    """Each method with each loss, the methods taking turns."""
    methods, losses = _tables(content, "methods"), _tables(content, "losses")
    for_all = flattened(_table(content.get("set", {}), "set"))
    rows = []
    for method, given in methods.items():
        table = _table(given, f"methods.{method}")
        _require_known(table, ("recipe", "set"), f"methods.{method}")
        recipe = _recipe(table, f"methods.{method}", folder)
        of_method = flattened(_table(table.get("set", {}), f"methods.{method}.set"))
        for loss, changes in losses.items() or [("", {})]:
            of_loss = _table(changes, f"losses.{loss}")
            _require_known(of_loss, ("set",), f"losses.{loss}")
            of_loss = flattened(_table(of_loss.get("set", {}), f"losses.{loss}.set"))
            changes = {**for_all, **of_method, **of_loss}
            row = Row(method, loss, recipe, str(table["recipe"]), tuple(changes))
            try:
                changed = recipe.with_changes({**changes, "seed": seed})
            except UserError as reason:
                raise UserError(f"{row.where}: {reason}") from reason
            rows.append(replace(row, recipe=changed))
    return tuple(rows)


def _recipe(table: Mapping[str, Any], where: str, folder: Path) -> StudentRecipe:
    name = _value(table, "recipe", str, "", where)
    if not name:
        raise UserError(f"{where}.recipe is missing; give a name of ferd-train ls, or FILE.toml.")
    try:
        return find_student_recipe(str(folder / name) if name.endswith(".toml") else name)
    except UserError as reason:
        raise UserError(f"{where}: {reason}") from reason


def _evaluations(
    content: Mapping[str, Any], dataset: str, rows: Sequence[Row]
) -> tuple[Evaluation, ...]:
    found = []
    tables = _tables(content, "evaluations")
    for name, given in tables.items():
        where = f"evaluations.{name}"
        values = parse_config(_table(given, where), where)
        _require_known(values, _MEASUREMENT, where)
        if "eps" not in values:
            values["eps"] = _common_eps(rows, where)
        try:
            settings = EvalConfig(dataset=dataset, **values)
        except UserError as reason:
            raise UserError(f"{where}: {reason}") from reason
        found.append(Evaluation(name, settings))
    _require_own_folders([*tables], "evaluations", taken=("run", "log.txt", "failure.json"))
    return tuple(found)


def _common_eps(rows: Sequence[Row], where: str) -> str:
    """What all students were trained for."""
    by_eps = {row.recipe.eps: row for row in rows}
    if len(by_eps) > 1:
        (first, one), (second, other), *_ = by_eps.items()
        raise UserError(
            f"{where}: {one.where} trains for eps {first}, {other.where} for {second}; say which "
            'to attack all with, e.g. eps = "8/255".'
        )
    return str(rows[0].recipe.eps)


@dataclass(frozen=True)
class _Pattern:
    """Cells by what they are of; what is not named is any."""

    teachers: tuple[str, ...] | None
    methods: tuple[str, ...] | None
    losses: tuple[str, ...] | None
    seeds: tuple[int, ...] | None

    def fits(self, cell: Cell) -> bool:
        assert cell.row is not None
        pairs = (
            (cell.teacher.name, self.teachers),
            (cell.row.method, self.methods),
            (cell.row.loss, self.losses),
            (cell.seed, self.seeds),
        )
        return all(these is None or value in these for value, these in pairs)


def _selection(
    content: Mapping[str, Any],
    teachers: Sequence[TeacherSource],
    rows: Sequence[Row],
    seeds: Sequence[int],
) -> Callable[[Cell], bool]:
    """Which students there are to be."""
    known: dict[str, Sequence[Any]] = {
        "teachers": [teacher.name for teacher in teachers],
        "methods": [row.method for row in rows],
        "losses": [row.loss for row in rows],
        "seeds": seeds,
    }
    skip, only = (_patterns(content, name, known) for name in ("skip", "only"))

    def wanted(cell: Cell) -> bool:
        if only and not any(each.fits(cell) for each in only):
            return False
        return not any(each.fits(cell) for each in skip)

    return wanted


def _patterns(
    content: Mapping[str, Any], name: str, known: Mapping[str, Sequence[Any]]
) -> list[_Pattern]:
    given = content.get(name, [])
    if not isinstance(given, list):
        raise UserError(f'{name} is {given!r}; give a list such as [{{ methods = ["a"] }}].')
    patterns = []
    for place, item in enumerate(given, 1):
        where = f"{name}, entry {place}"
        table = _table(item, where)
        _require_known(table, tuple(known), where)
        for key, values in table.items():
            if not isinstance(values, list):
                raise UserError(f"{where}: {key} is {values!r}; give a list.")
            for value in values:
                if value not in known[key]:
                    raise UserError(
                        f"{where}: none of the {key} is {value!r}."
                        f"{did_you_mean(str(value), map(str, dict.fromkeys(known[key])))}"
                    )
        chosen = {key: tuple(table[key]) if key in table else None for key in known}
        patterns.append(_Pattern(**chosen))
    return patterns


def _from_folder(dataset: str, folder: Path) -> str:
    """A data set's name; that of ``npz:PATH`` and its like as seen from the study's folder."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{folder / path}" if colon else dataset


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    wanted = "give a list of different numbers from 0 on, such as [0, 1, 2]."
    if not isinstance(given, list) or not all(type(seed) is int for seed in given):
        raise UserError(f"{where} is {given!r}; {wanted}")
    if len({*given}) < len(given):
        raise UserError(f"{where} is {given}; {wanted}")
    return tuple(given)


def _tables(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What is in a section, by the names that the user gave."""
    section = _table(content.get(name, {}), name)
    for each in section:
        if not each.strip() or len(each) > _LONGEST_NAME or not each.isprintable():
            raise UserError(
                f"{name} has the name {each!r}; give 1 to {_LONGEST_NAME} printable characters."
            )
    return section


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}; write a table, [{where}].")
    return value


def _value(content: Mapping[str, Any], key: str, kind: type, default: Any, where: str = "") -> Any:
    value = content.get(key, default)
    _require_type(value, kind, f"{where}.{key}" if where else key)
    return value


def _require_type(value: Any, kind: type, where: str) -> None:
    if type(value) is not kind:
        wanted = {str: "a text", bool: "true or false"}[kind]
        raise UserError(f"{where} is {value!r}; give {wanted}.")


def _require_known(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UserError(f"{where} has no {key!r}.{did_you_mean(key, known)}")


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
