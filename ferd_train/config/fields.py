"""Recipes as frozen dataclasses that may nest: read from texts, changed by dotted names, written.

A field's name is its path, ``synthesis.bottleneck.beta``. Values may be texts, as a command line
gives them, or of the field's own type, as TOML gives them. Some sections come in several kinds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.toml import parse_toml

R = TypeVar("R")

# Beyond single precision no number is of use.
_LARGEST = 1e30
# torch takes no larger seed.
_SEEDS = 2**63


def kinds(known: Mapping[str, type], *, by: str) -> Mapping[str, Any]:
    """Metadata of a section that comes in several kinds, each a dataclass with its own fields.

    Changing the field `by` of the section turns it into that kind with the kind's own values; only
    what is defined in a class that both kinds descend from stays as it was.

    Args:
        known: kinds by name. A kind holds its name in the field `by`, which has ``init=False``.
        by: the field that says which kind a section is.
    """
    return {"kinds": known, "by": by}


class Recipe:
    """Base of the recipes, which are frozen dataclasses."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """See `from_fields`."""
        return from_fields(cls, fields)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """See `with_changes`."""
        return with_changes(self, changes)

    def to_json(self) -> dict[str, Any]:
        """See `flat`."""
        return flat(self)


def from_fields(kind: type[R], fields: Mapping[str, Any]) -> R:
    """A recipe from its fields; what is not named has its default.

    Raises:
        UserError: an unknown or a missing field, or a value of a wrong type.
    """
    _require_known(names_of(kind), fields)
    needed = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in fields]
    if missing:
        raise UserError(f"a recipe needs {', '.join(needed)}: add {', '.join(missing)}.")
    types = get_type_hints(kind)
    begun = kind(**{name: _read(name, fields[name], types[name]) for name in needed})
    return _changed(begun, fields, "")


def with_changes(recipe: R, changes: Mapping[str, Any]) -> R:
    """The recipe with some fields replaced, by dotted name.

    Raises:
        UserError: an unknown field, or a value of a wrong type.
    """
    sections, others = _turned(recipe, changes)
    known = [
        name
        for field in dataclasses.fields(recipe)  # type: ignore[arg-type]
        for name in _paths(sections.get(field.name, getattr(recipe, field.name)), field.name)
    ]
    _require_known(known, others)
    return _changed(recipe, others, "", sections)


def _turned(recipe: object, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections that are to be of another kind, as such, and what else is asked for."""
    others, sections = dict(changes), {}
    for field in dataclasses.fields(recipe):  # type: ignore[arg-type]
        by = f"{field.name}.{field.metadata.get('by')}"
        if by not in others:
            continue
        name, known = str(others.pop(by)), field.metadata["kinds"]
        if name not in known:
            raise UserError(f"no {by} is called {name!r}.{did_you_mean(name, known)}")
        section = getattr(recipe, field.name)
        if known[name] is not type(section):
            sections[field.name] = _of_kind(known[name], section)
    return sections, others


def _of_kind(kind: type[R], before: object) -> R:
    """A section of another kind; what the two have from a common class is kept."""
    common = next(each for each in kind.__mro__ if isinstance(before, each))
    shared = dataclasses.fields(common) if dataclasses.is_dataclass(common) else ()
    return kind(**{each.name: getattr(before, each.name) for each in shared if each.init})


def _changed(
    part: R, changes: Mapping[str, Any], path: str, sections: Mapping[str, Any] | None = None
) -> R:
    """The part with changes in it and in its sections, of which some are other ones first."""
    types = get_type_hints(type(part))
    values = dict(sections or {})
    for field in dataclasses.fields(part):  # type: ignore[arg-type]
        name, kind = field.name, types[field.name]
        if dataclasses.is_dataclass(kind):
            below = _below(changes, name)
            if below:
                section = values.get(name, getattr(part, name))
                values[name] = _changed(section, below, f"{path}{name}.")
        elif name in changes:
            values[name] = _read(path + name, changes[name], kind)
    try:
        return dataclasses.replace(part, **values)  # type: ignore[type-var]
    except UserError as reason:
        # Several sections have a field of that name.
        raise UserError(f"{path[:-1]}: {reason}" if path else str(reason)) from reason


def flat(recipe: object) -> dict[str, Any]:
    """Dotted name → plain value, in the order of the fields; sizes as exact texts (``"8/255"``)."""
    return dict(_flat(recipe, ""))


def _paths(value: object, name: str) -> list[str]:
    """Dotted names of what lies in a field of that name."""
    if not dataclasses.is_dataclass(value):
        return [name]
    return [f"{name}.{below}" for below in flat(value)]


def _flat(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{path}{field.name}.")
        else:
            plain = text_of(value) if isinstance(value, Fraction) else value
            yield path + field.name, plain


def to_toml(recipe: object) -> str:
    """The recipe as a TOML file that `read_toml` and `from_fields` turn into an equal one."""
    return "".join(f"{name} = {_toml_value(value)}\n" for name, value in flat(recipe).items())


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file's values by dotted name.

    Raises:
        UserError: it cannot be read, or is no TOML.
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


def flattened(table: Mapping[str, Any]) -> dict[str, Any]:
    """Values of nested tables by dotted name."""
    return dict(_leaves(table, ""))


def _leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def names_of(kind: type) -> list[str]:
    """Dotted names of all fields."""
    return list(_names(kind, ""))


def _names(kind: type, path: str) -> Iterator[str]:
    for name, inner in get_type_hints(kind).items():
        if dataclasses.is_dataclass(inner):
            yield from _names(inner, f"{path}{name}.")  # type: ignore[arg-type]
        else:
            yield path + name


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


def _read(name: str, value: Any, kind: type) -> Any:
    text = str(value)
    if kind is Fraction:
        return parse_quantity(text, name)
    expected, read = _READERS[kind]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {text[:60]!r}; give {expected}.") from None


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}

_READERS: Mapping[type, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: _TRUTHS[text.lower()]),
}


def text_of(value: int | Fraction) -> str:
    """A number as a user gives it, short where that is exact: ``0.1``, ``8/255``, ``1/7``."""
    value = Fraction(value)
    short = format_quantity(value)
    numerator, _, denominator = short.partition("/")
    return short if Fraction(numerator) == value * Fraction(denominator or 1) else str(value)


def _toml_value(value: Any) -> str:
    # TOML has no escapes in pairs, as JSON writes characters beyond the first 65536.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)


# What fields are checked with. Each raises a UserError that names field, value and next step.


def require_at_least(part: object, smallest: int, *names: str) -> None:
    """Whole numbers from `smallest` on."""
    for name in names:
        if getattr(part, name) < smallest:
            raise UserError(f"{name} is {getattr(part, name)}; give {smallest} or more.")


def require_share(part: object, *names: str) -> None:
    """Numbers from 0 up to, but not, 1."""
    for name in names:
        if not 0 <= getattr(part, name) < 1:
            raise UserError(f"{name} is {getattr(part, name)}; give 0 <= {name} < 1.")


def require_not_negative(part: object, *names: str) -> None:
    """Numbers from 0 on that single precision can hold."""
    for name in names:
        if not 0 <= getattr(part, name) < _LARGEST:
            raise UserError(f"{name} is {getattr(part, name)}; give 0 <= {name} < 1e30.")


def require_positive(part: object, *names: str) -> None:
    """Numbers above 0 that single precision can hold."""
    for name in names:
        if not 0 < getattr(part, name) < _LARGEST:
            raise UserError(f"{name} is {getattr(part, name)}; give 0 < {name} < 1e30.")


def require_ordered(part: object, low: str, high: str) -> None:
    """Two numbers from 0 on, the first not above the second."""
    require_not_negative(part, low, high)
    first, second = getattr(part, low), getattr(part, high)
    if first > second:
        raise UserError(f"{low} is {first} and {high} {second}; give {low} <= {high}.")


def require_seed(seed: int) -> None:
    """A seed that torch takes."""
    if not 0 <= seed < _SEEDS:
        raise UserError(f"seed is {seed}; give 0 or more, below 2**63.")


def require_one_of(part: object, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    """A name that is known."""
    value = getattr(part, name)
    if value not in known:
        raise UserError(f"no {name} is called {value!r}.{did_you_mean(value, known)}")
