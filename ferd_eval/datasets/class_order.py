"""Which class each label of a user's own set stands for. K classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.errors import UserError, did_you_mean, listed

#: ``text`` sorts names as torchvision's ImageFolder does, ``natural`` puts class_2 before class_10.
ORDERS = ("text", "natural")

_MOST_BYTES = 1 << 24
_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*[:;,]\s*|[.)]?\s+)(.+)")


@dataclass(frozen=True)
class ClassOrder:
    """What a user says of the order; nothing by default."""

    names: tuple[str, ...] = ()  #: the K classes in label order, where they were listed
    by: str | None = None  #: one of `ORDERS`, where it was chosen
    source: str = ""  #: the list, for messages and the record

    @classmethod
    def chosen(cls, classes: str | Sequence[str] | None, by: str | None) -> ClassOrder:
        """From ``--classes`` (a file, a,b,c, or the names themselves) or ``--class-order``.

        UserError: both are given, the list cannot be read, or there is no such order.
        """
        if by is not None and by not in ORDERS:
            raise UserError(f"--class-order is {by!r}.{did_you_mean(by, ORDERS)}")
        if classes is None:
            return cls(by=by)
        if by is not None:
            raise UserError("--classes and --class-order both order the classes; give one of them.")
        if isinstance(classes, str):
            return cls(read_class_list(classes), source=f"--classes {classes}")
        return cls(_checked(classes, "the list of classes"), source="the list of classes")

    def __bool__(self) -> bool:
        return bool(self.names) or self.by is not None

    def of_folders(self, folders: Sequence[str], root: Path) -> FolderOrder:
        """Put class folders into the labels' order; messages name `root`, where they are.

        UserError: the list does not name exactly the folders.
        """
        as_text, by_number = sorted(folders), sorted(folders, key=_natural)
        if self.names:
            for names in (self.names, without_numbers(self.names)):
                if sorted(names) == as_text:
                    return FolderOrder(names, f"as {self.source} lists them")
            raise UserError(_misfit(without_numbers(self.names), folders, self.source, root))
        if self.by == "natural":
            return FolderOrder(tuple(by_number), "natural, 2 before 10")
        cautions: tuple[str, ...] = ()
        if self.by is None and as_text != by_number:
            k = next(k for k, name in enumerate(as_text) if name != by_number[k])
            cautions = (
                "class folders are labelled in the order of their names as text, as torchvision "
                f"does: label {k} is {as_text[k]!r}, but by number it would be {by_number[k]!r}. "
                "Where the network was trained otherwise every figure is wrong: choose with "
                "--class-order natural (or text), or --classes names.txt.",
            )
        return FolderOrder(tuple(as_text), "text, as torchvision's ImageFolder", cautions)

    def of_numbers(self) -> tuple[str, ...]:
        """The names by label, for data whose labels are numbers; empty where none are given.

        UserError: an order was chosen, or the list counts from 1.
        """
        if self.by is not None:
            raise UserError(
                f"--class-order {self.by} is for class folders; here labels are numbers already. "
                "Leave it out; --classes names.txt gives them names."
            )
        names = without_numbers(self.names)
        if names != self.names and min(map(_number, self.names)) == 1:
            raise UserError(
                f"{self.source} numbers the classes from 1, but labels count from 0. Number them "
                "from 0, or leave the numbers out."
            )
        return names


@dataclass(frozen=True)
class FolderOrder:
    """Class folders in label order."""

    names: tuple[str, ...]  #: K of them
    how: str  #: source of the order, for the record
    cautions: tuple[str, ...] = ()  #: warnings for the user


def read_class_list(spec: str) -> tuple[str, ...]:
    """The names in a file, one a line, or in ``a,b,c``. Blank lines at the end do not count.

    UserError: there is no such file, or it is no list of two or more different names.
    """
    file = Path(spec)
    try:
        if file.is_file():
            if file.stat().st_size > _MOST_BYTES:
                raise UserError(f"--classes {spec} is too large for a list of names; give another.")
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        elif "," in spec:
            lines = spec.split(",")
        else:
            raise UserError(f"--classes {spec} is no file. Give one with a name a line, or a,b,c.")
    except (OSError, ValueError) as reason:
        raise UserError(f"--classes {spec} cannot be read: {reason}. Save it as UTF-8.") from reason
    return _checked(lines, f"--classes {spec}")


def without_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Names of lines such as ``0 airplane``, by number; the names themselves where others are.

    All lines must begin with a number, and the numbers must be consecutive, from 0 or 1.
    """
    found = [_NUMBERED.fullmatch(name) for name in names]
    by_number = {int(each[1]): each[2] for each in found if each}
    start = min(by_number, default=-1)
    whole = start in (0, 1) and {*by_number} == {*range(start, start + len(names))}
    if not whole or len({*by_number.values()}) < len(names):
        return tuple(names)
    return tuple(by_number[k] for k in sorted(by_number))


def _number(name: str) -> int:
    found = _NUMBERED.fullmatch(name)
    assert found is not None, "all names of a numbered list begin with a number"
    return int(found[1])


def _checked(lines: Sequence[str], where: str) -> tuple[str, ...]:
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if "" in names:
        raise UserError(
            f"{where}: name {names.index('')} is empty; name every class, without blank lines."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{where} has {twice[0]!r} more than once; name each by its own.")
    if len(names) < 2:
        raise UserError(f"{where} names {len(names)} classes; give two or more.")
    return names


def _natural(name: str) -> tuple[list[str | int], str]:
    parts: list[str | int] = [*re.split(r"([0-9]+)", name)]
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _misfit(names: Sequence[str], folders: Sequence[str], source: str, root: Path) -> str:
    missing = [name for name in names if name not in folders]
    unnamed = [name for name in sorted(folders) if name not in names]
    parts = (("no folder for", missing), ("not named:", unnamed))
    said = "; ".join(f"{what} {listed([*map(repr, those)])}" for what, those in parts if those)
    return (
        f"{source} names {len(names)} classes, but {root} has {len(folders)} class folders ({said})"
        ". Name exactly the folders, in the labels' order; a class without images has an empty one."
    )
