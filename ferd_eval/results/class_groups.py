"""Groups of classes: CIFAR-100's superclasses, or a file of the user's."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from ferd_eval.errors import UserError, did_you_mean, listed


def read_groups(
    spec: str, class_names: tuple[str, ...], built_in: Mapping[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Resolve ``--groups``: grouping name → one group name per class, in label order.

    `spec` is a built-in grouping of the data set, or a CSV file with the columns class and group;
    every class must be named, by name or by index. UserError: no such grouping or file, an unknown
    class, or a class without a group.
    """
    if spec in built_in:
        return {spec: list(built_in[spec])}
    file = Path(spec)
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except FileNotFoundError as reason:
        raise UserError(
            f"--groups {spec} is neither a file nor a built-in grouping; this data set has "
            f"{', '.join(built_in) or 'none'}. Give a CSV file with a line class,group for each of "
            f"the {len(class_names)} classes, e.g. {class_names[0]},mine."
        ) from reason
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise UserError(
            f"--groups {spec} cannot be read: {reason}. Give a CSV file with lines class,group."
        ) from reason
    rows = [[cell.strip() for cell in line] for line in lines if line]
    if rows and rows[0] == ["class", "group"]:
        rows = rows[1:]
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not row[1]:
            raise UserError(
                f"--groups {spec}: entry {number} is {','.join(row)!r}, not class,group."
            )
        groups[_class_name(row[0], class_names, spec)] = row[1]
    left_out = [name for name in class_names if name not in groups]
    if left_out:
        raise UserError(
            f"--groups {spec} gives no group to {len(left_out)} of {len(class_names)} classes: "
            f"{listed(left_out)}. Add a line class,group for each."
        )
    return {file.stem: [groups[name] for name in class_names]}


def _class_name(word: str, class_names: tuple[str, ...], spec: str) -> str:
    if word in class_names:
        return word
    if word.isdecimal() and len(word) < 10 and int(word) < len(class_names):
        return class_names[int(word)]
    known = get_close_matches(word, class_names, n=1) or class_names[:20]
    near = did_you_mean(word, known)
    raise UserError(f"--groups {spec}: no class is called {word[:60]!r}.{near}")
