"""Recipes: frozen dataclasses that may nest, read from text, changed by dotted names, written.

A field's name is its path, ``synthesis.bottleneck.beta``. Values may be texts, as on a command
line, or of the field's own type, as in TOML. A section may come in several kinds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.toml import parse_toml
from ferd_train.config.checks import Checked

S = TypeVar("S")


def kinds(known: Mapping[str, type], *, by: str) -> Mapping[str, Any]:
    """Metadata of a section that comes in several kinds, each a dataclass with its own fields.

    Changing the section's field `by` turns it into that kind with that kind's defaults; only fields
    defined in a class that both kinds descend from keep their values.

    Args:
        known: kinds by name. A kind holds its name in the field `by`, which has ``init=False``.
        by: the field that names the kind.
    """
    return {"kinds": known, "by": by}


class Recipe(Checked):
    """Base of the recipes, which are frozen dataclasses."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """A recipe from its fields by dotted name, the others at their defaults.

        Raises:
            UserError: an unknown or a missing field, or a wrong value.
        """
        needed = [
            each.name for each in _fields(cls) if each.default is each.default_factory is MISSING
        ]
        missing = [name for name in needed if name not in fields]
        if missing:
            _require_known(names_of(cls), fields)
            raise UserError(f"a recipe needs {', '.join(needed)}: add {', '.join(missing)}.")
        types = get_type_hints(cls)
        begun = cls(**{name: _read(name, fields[name], types[name]) for name in needed})
        return begun.with_changes(fields)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The recipe with some fields replaced, by dotted name.

        Raises:
            UserError: an unknown field, or a wrong value.
        """
        sections, others = _converted_sections(self, changes)
        values = {**_values(self), **sections}
        known = [name for key, each in values.items() for name, _ in _leaves(each, _section, key)]
        _require_known(known, others)
        return _changed(self, others, "", sections)

    def to_json(self) -> dict[str, Any]:
        """See `flat`."""
        return flat(self)


class RunRecipe(Recipe):
    """Base of the recipes of runs, which all have these fields."""

    epochs: int
    batch_size: int
    seed: int


def _fields(section: object) -> Iterable[dataclasses.Field[Any]]:
    return dataclasses.fields(section)  # type: ignore[arg-type]


def _converted_sections(
    recipe: object, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sections that change their kind, converted, and the remaining changes."""
    others, sections = dict(changes), {}
    for field in _fields(recipe):
        by = f"{field.name}.{field.metadata.get('by')}"
        if by not in others:
            continue
        name, known = str(others.pop(by)), field.metadata["kinds"]
        if name not in known:
            raise UserError(f"no {by} is called {name!r}.{did_you_mean(name, known)}")
        section = getattr(recipe, field.name)
        if known[name] is not type(section):
            sections[field.name] = _converted(known[name], section)
    return sections, others


def _converted(kind: type[S], before: object) -> S:
    """A section of another kind, with the values of fields from their common class."""
    common = next(each for each in kind.__mro__ if isinstance(before, each))
    shared = dataclasses.fields(common) if is_dataclass(common) else ()
    return kind(**{each.name: getattr(before, each.name) for each in shared if each.init})


def _changed(
    section: S, changes: Mapping[str, Any], path: str, converted: Mapping[str, Any] | None = None
) -> S:
    """The section with changes in it and in those within it, some converted beforehand."""
    types = get_type_hints(type(section))
    values = dict(converted or {})
    for field in _fields(section):
        name, kind = field.name, types[field.name]
        if is_dataclass(kind):
            if below := _below(changes, name):
                inner = values.get(name, getattr(section, name))
                values[name] = _changed(inner, below, f"{path}{name}.")
        elif name in changes and not field.init:
            _require_constant(path + name, changes[name], getattr(section, name))
        elif name in changes:
            values[name] = _read(path + name, changes[name], kind)
    try:
        return dataclasses.replace(section, **values)  # type: ignore[type-var]
    except UserError as reason:
        # Several sections have a field of that name.
        raise UserError(f"{path[:-1]}: {reason}" if path else str(reason)) from reason


def _require_constant(name: str, given: Any, constant: Any) -> None:
    if given != constant:
        raise UserError(f"{name} is always {constant}, not {given}; leave it out.")


def flat(recipe: object) -> dict[str, Any]:
    """Dotted name → plain value, in the order of the fields; sizes as exact texts (``"8/255"``)."""
    return {
        name: text_of(value) if isinstance(value, Fraction) else value
        for name, value in _leaves(recipe, _section)
    }


def flattened(table: Mapping[str, Any]) -> dict[str, Any]:
    """Values of nested tables by dotted name."""
    return dict(_leaves(table, lambda value: value if isinstance(value, dict) else None))


def names_of(kind: type) -> list[str]:
    """Dotted names of all fields."""
    leaves = _leaves(kind, lambda inner: get_type_hints(inner) if is_dataclass(inner) else None)
    return [name for name, _ in leaves]


def _leaves(
    node: Any, children: Callable[[Any], Mapping[str, Any] | None], path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the nodes without children."""
    below = children(node)
    if below is None:
        yield path, node
        return
    for name, child in below.items():
        yield from _leaves(child, children, f"{path}.{name}" if path else name)


def _values(section: object) -> dict[str, Any]:
    return {field.name: getattr(section, field.name) for field in _fields(section)}


def _section(value: object) -> dict[str, Any] | None:
    return _values(value) if is_dataclass(value) else None


def to_toml(recipe: object) -> str:
    """The recipe as a TOML file that `read_toml` and `from_fields` turn into an equal one."""
    return "".join(f"{name} = {_toml_value(value)}\n" for name, value in flat(recipe).items())


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file's values by dotted name.

    Raises:
        UserError: the file cannot be read, or is no TOML.
    """
    try:
        return flattened(parse_toml(file))
    except OSError as reason:
        raise UserError(
            f"recipe {file} cannot be read ({reason.strerror}); give --recipe a file or a name of "
            "ferd-train ls."
        ) from reason
    except ValueError as reason:
        raise UserError(
            f"recipe {file} is no TOML ({reason}); write lines such as epochs = 30."
        ) from reason


def _require_known(known: Sequence[str], given: Mapping[str, Any]) -> None:
    for name in given:
        if inside := _below(dict.fromkeys(known), name):
            raise UserError(
                f"{name} is a section of a recipe; set one of its fields: "
                f"{', '.join(f'{name}.{field}' for field in inside)}."
            )
        if name not in known:
            last = name.rpartition(".")[2]
            alike = [each for each in known if each.rpartition(".")[2] == last]
            raise UserError(f"a recipe has no field {name!r}.{did_you_mean(name, alike or known)}")


def _below(fields: Mapping[str, Any], section: str) -> dict[str, Any]:
    start = f"{section}."
    return {name[len(start) :]: v for name, v in fields.items() if name.startswith(start)}


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_READERS: Mapping[type, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: _TRUTHS[text.lower()]),
}


def _read(name: str, value: Any, kind: type) -> Any:
    text = str(value)
    if kind is Fraction:
        return parse_quantity(text, name)
    expected, read = _READERS[kind]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {text[:60]!r}; give {expected}.") from None


def text_of(value: int | Fraction) -> str:
    """A number as a user gives it, short where that is exact: ``0.1``, ``8/255``, ``1/7``."""
    value = Fraction(value)
    short = format_quantity(value)
    numerator, _, denominator = short.partition("/")
    return short if Fraction(numerator) == value * Fraction(denominator or 1) else str(value)


def _toml_value(value: Any) -> str:
    # TOML has no escapes in pairs, as JSON writes characters beyond the first 65536.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
