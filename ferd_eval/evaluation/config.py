"""Everything ``ferd-eval score`` can be told, from flags and from a TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.toml import parse_toml


@dataclass(frozen=True)
class EvalConfig:
    """One scoring job. Field names are the flags' names with ``_`` for ``-``."""

    dataset: str | None = None
    data_dir: Path | None = None
    download: bool = False
    arch: str | None = None
    model_file: str | None = None
    normalize: str = "auto"
    attacks: str = "paper"
    attack_file: str | None = None
    engine: str = "native"
    eps: str | None = None
    steps: int | None = None
    step_size: str | None = None
    limit: int | None = None
    per_class: int | None = None
    batch_size: str = "auto"
    device: str = "auto"
    cluster: str | None = None
    precision: str = "float32"
    fold_batchnorm: bool = True
    seed: int = 0
    out: Path | None = None
    save_adv: bool = False
    groups: str | None = None
    # Not part of what a run's folder is called: the class names and the network taken are.
    key: str | None = field(default=None, repr=False)
    classes: str | None = field(default=None, repr=False)
    class_order: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("limit", "per_class", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{_flag(name)} is {value}; give 1 or more.")
        if self.limit is not None and self.per_class is not None:
            raise UserError("--limit and --per-class exclude each other; give one of them.")
        if self.batch_size != "auto" and not (
            self.batch_size.isdecimal() and len(self.batch_size) < 10 and int(self.batch_size) > 0
        ):
            said = self.batch_size[:60]
            raise UserError(f"--batch-size is {said!r}; give auto or a number from 1.")
        if self.cluster is not None and self.device != "auto":
            raise UserError(
                "--cluster and --device exclude each other: a cluster's workers take its GPUs, or "
                "its CPUs where it has none. Leave one of them out."
            )
        for name, known in (("precision", PRECISIONS), ("engine", ENGINES)):
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"{_flag(name)} is {value!r}.{did_you_mean(value, known)}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed is {self.seed}; give a number from 0 to 2^63 − 1.")

    @classmethod
    def gather(cls, flags: Mapping[str, Any], config: Path | None) -> EvalConfig:
        """Flags win over the TOML file, the file over the defaults.

        Raises:
            UserError: the file cannot be read, or has an unknown key or a value of a wrong type.
        """
        from_file = {} if config is None else _read_toml(config)
        named = {name: value for name, value in flags.items() if value is not None}
        if {"limit", "per_class"} & named.keys():  # they exclude each other, and flags win
            from_file = {k: v for k, v in from_file.items() if k not in ("limit", "per_class")}
        return cls(**{**from_file, **named})

    @property
    def batch(self) -> int | None:
        """Images a pass, None where the run may choose."""
        return None if self.batch_size == "auto" else int(self.batch_size)

    @property
    def is_remote(self) -> bool:
        """Whether workers of a cluster do the work."""
        return self.cluster is not None or "," in self.device


PRECISIONS = ("float32", "float64")
ENGINES = ("native", "autoattack", "torchattacks")


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        content = parse_toml(file)
    except (OSError, ValueError) as reason:
        raise UserError(f"--config {file} cannot be read: {reason}.") from reason
    return parse_config(content, f"--config {file}")


def parse_config(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `EvalConfig` from a table of TOML, where ``-`` may stand for ``_``.

    Args:
        table: keys and values.
        where: what messages begin with.

    Raises:
        UserError: an unknown key, one given twice, or a value of a wrong type.
    """
    kinds = get_type_hints(EvalConfig)
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in kinds:
            known = [field.name for field in dataclasses.fields(EvalConfig)]
            raise UserError(f"{where}: unknown key {key!r}.{did_you_mean(name, known)}")
        if name in values:
            twin = next(other for other in table if other.replace("-", "_") == name)
            raise UserError(f"{where}: {twin} and {key} are one key. Keep one of them.")
        values[name] = _convert(where, key, value, kinds[name])
    return values


def _convert(where: str, key: str, value: Any, kind: Any) -> Any:
    allowed = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if isinstance(value, list) and str in allowed:
        return ",".join(map(str, value))
    if isinstance(value, int | float) and not isinstance(value, bool) and str in allowed:
        return str(value)
    if isinstance(value, str) and Path in allowed:
        return Path(value)
    if type(value) not in allowed:
        expected = " or ".join(k.__name__ for k in allowed if k is not type(None))
        raise UserError(f"{where}: {key} is {value!r}, expected {expected}.")
    return value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
