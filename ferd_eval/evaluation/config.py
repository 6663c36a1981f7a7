"""Settings of an evaluation: one list for the command line, TOML files and Python."""

# ruff: noqa: RUF009 -- `_option` makes a field

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from ferd_eval.attacks.registry import ENGINES
from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.toml import parse_toml

#: Panels of the help.
DATA, MODEL, ATTACKS, RUN = "Data", "Model", "Attacks", "Run"

PRECISIONS = ("float32", "float64")
#: For searches: the fastest by measurement, the network's own, and those of lower precision.
AUTO, SINGLE = "auto", "fp32"
SEARCH_PRECISIONS = (AUTO, SINGLE, "tf32", "bf16")


# Help that needs more than its option's line.
_CLASSES = (
    "Class names of your own set in label order: a file with one a line, or a,b,c; for folder:PATH "
    "exactly its folders."
)
_CLASS_ORDER = "Order of folder:PATH's folders: as torchvision (default), or 2 before 10."
_KEY = "Which network, where a file holds several: student, state_dict_ema, ..."
_NORMALIZE = "auto, none, cifar10, cifar100, imagenet or M,M,M/S,S,S."
_FACTORY, _ADDRESS = "FILE.py:FACTORY", "auto|ADDRESS"
_ATTACK_NAMES = "Names of `ls attacks`, with commas; default: paper = clean,fgsm,pgd,cw,aa."
_OWN_ATTACK = "Your own attack beside the others. Runs FILE.py."
_ENGINE = "native, or as a cross-check: autoattack (its authors' code), torchattacks."
_DEVICE = "auto, cpu, cuda, cuda:1, mps; several with commas work at once (needs Ray)."
_SEARCH = "auto, fp32, tf32 or bf16: arithmetic to search in; the network itself decides."
_FOLD = "Search with batch norms fused; the network itself decides. Default: yes."
_GROUPS = "Figures for groups of classes too: superclass, or a CSV file class,group."


def _option(default: Any, panel: str, text: str, metavar: str | None = None) -> Any:
    help_ = {"panel": panel, "help": text, "metavar": metavar}
    return field(default=default, metadata=help_)


def _unnamed(panel: str, text: str, metavar: str | None = None, default: Any = None) -> Any:
    """An option that a default run folder's name does not depend on."""
    metadata = _option(default, panel, text, metavar).metadata
    return field(default=default, repr=False, metadata=metadata)


@dataclass(frozen=True)
class EvalConfig:
    """Settings of one evaluation. Fields are called like the flags, with ``_`` for ``-``.

    Raises:
        UserError: a value is out of range, or two exclude each other.
    """

    dataset: str | None = _option(None, DATA, "A name of `ls datasets`, folder:PATH or npz:PATH.")
    data_dir: Path | None = _option(None, DATA, "Folder of the data set.")
    download: bool = _option(False, DATA, "Fetch a missing public set.")
    # Class names and the network taken count for the folder's name in place of these three.
    classes: str | None = _unnamed(DATA, _CLASSES)
    class_order: str | None = _unnamed(DATA, _CLASS_ORDER, "text|natural")
    key: str | None = _unnamed(MODEL, _KEY)
    arch: str | None = _option(None, MODEL, "A name of `ls models`; default: detected.")
    model_file: str | None = _option(None, MODEL, "Your own network. Runs FILE.py.", _FACTORY)
    normalize: str = _option("auto", MODEL, _NORMALIZE)
    attacks: str = _option("paper", ATTACKS, _ATTACK_NAMES)
    attack_file: str | None = _option(None, ATTACKS, _OWN_ATTACK, "FILE.py:CLASS")
    engine: str = _option("native", ATTACKS, _ENGINE)
    eps: str | None = _option(None, ATTACKS, "L∞ radius, as 8/255; several give a profile.")
    steps: int | None = _option(None, ATTACKS, "Steps of every iterated attack.")
    step_size: str | None = _option(None, ATTACKS, "Their step; default ε/4.")
    limit: int | None = _option(None, DATA, "Only the first N images.")
    per_class: int | None = _option(None, DATA, "Only the first N images of each class.")
    batch_size: str = _option("auto", RUN, "auto or a number.")
    device: str = _option("auto", RUN, _DEVICE)
    cluster: str | None = _option(None, RUN, "Use all GPUs or CPUs of a Ray cluster.", _ADDRESS)
    precision: str = _option("float32", RUN, "float32 or float64.")
    # Counts for the folder's name where it is not auto: names of earlier runs stay.
    search_precision: str = _unnamed(RUN, _SEARCH, default=AUTO)
    fold_batchnorm: bool = _option(True, RUN, _FOLD)
    seed: int = _option(0, RUN, "Random seed.")
    out: Path | None = _option(None, RUN, "Folder of the run; the same command continues it.")
    save_adv: bool = _option(False, RUN, "Keep the adversarial images.")
    groups: str | None = _option(None, DATA, _GROUPS)

    def __post_init__(self) -> None:
        for name in ("limit", "per_class", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{flag(name)} is {value}; give 1 or more.")
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
        named = (
            ("precision", PRECISIONS),
            ("search_precision", SEARCH_PRECISIONS),
            ("engine", ENGINES),
        )
        for name, known in named:
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"{flag(name)} is {value!r}.{did_you_mean(value, known)}")
        if self.precision == "float64" and self.search_precision not in (AUTO, SINGLE):
            raise UserError(
                "--precision float64 and --search-precision exclude each other: searches are to "
                "be as exact as the verdict there. Leave one of them out."
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed is {self.seed}; give a number from 0 to 2^63 − 1.")

    @classmethod
    def gather(cls, flags: Mapping[str, Any], file: Path | None) -> EvalConfig:
        """Flags win over the TOML file, the file over the defaults; UserError where the file is
        wrong."""
        from_file = {}
        if file is not None:
            try:
                from_file = parse_config(parse_toml(file), f"--config {file}")
            except (OSError, ValueError) as reason:
                raise UserError(f"--config {file} cannot be read: {reason}.") from reason
        given = {name: value for name, value in flags.items() if value is not None}
        if {"limit", "per_class"} & given.keys():  # they exclude each other, and flags win
            from_file = {k: v for k, v in from_file.items() if k not in ("limit", "per_class")}
        return cls(**{**from_file, **given})

    @property
    def batch(self) -> int | None:
        """Images a pass, None for automatic."""
        return None if self.batch_size == "auto" else int(self.batch_size)

    @property
    def is_remote(self) -> bool:
        """Whether workers of a cluster do the work."""
        return self.cluster is not None or "," in self.device

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self).items()
        return {name: str(value) if isinstance(value, Path) else value for name, value in values}


def flag(name: str) -> str:
    """The command line's name of a field."""
    return "--" + name.replace("_", "-")


def parse_config(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `EvalConfig` from a table of TOML, where ``-`` may stand for ``_``.

    UserError begins with `where`: a key is unknown or given twice, or a value has a wrong type.
    """
    kinds = get_type_hints(EvalConfig)
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise UserError(f"{where}: unknown key {key!r}.{did_you_mean(name, [*kinds])}")
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
