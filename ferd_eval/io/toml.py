"""TOML files, whose parser has limits that it does not say."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

#: What TOML 1.0 asks of an integer, and deeper tables than anybody writes.
_LARGEST, _DEEPEST = 2**63, 20


def parse_toml(file: Path) -> dict[str, Any]:
    """The tables of a file.

    OSError: it cannot be read. ValueError: it is no TOML, nests too deeply, or has an integer
    beyond 64 bits.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    _require_modest(content, "", 0)
    return content


def _require_modest(value: Any, name: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"{name[:60]} nests more than {_DEEPEST} deep")
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError(f"{name[:60]} is an integer beyond 64 bits")
    if isinstance(value, dict):
        for key, each in value.items():
            _require_modest(each, f"{name}.{key}" if name else key, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _require_modest(each, name, depth + 1)
