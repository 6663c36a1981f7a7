"""Plain Python values in a torch file, read without calling any constructor.

Trainers leave their arguments (``argparse.Namespace``), paths, versions and queues beside the
weights. None of these can do anything, but torch's restricted unpickler knows none of them. What
such a pickle names is answered by stand-ins that only note their arguments, at a cost that does not
depend on them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

#: Longer paths are nobody's.
_MOST_CHARACTERS = 4096

StandIn = tuple[Callable[..., Any], str]


class InertValue:
    """Something in a file that is known by its kind alone."""

    def __init__(self, kind: str = "value") -> None:
        self._kind = kind

    def __str__(self) -> str:
        return f"a {self._kind}"


class _Type(InertValue):
    """Stands in for a type, as a value or called with anything."""

    def __call__(self, *_arguments: object) -> InertValue:
        return InertValue(self._kind)

    def __str__(self) -> str:
        return f"the type {self._kind}"


class _Fields(InertValue):
    """Stands in for an object with nothing but fields, such as ``argparse.Namespace``."""

    state: object = None

    def __new__(cls, *_arguments: object) -> _Fields:
        return super().__new__(cls)

    def __init__(self, *_arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __str__(self) -> str:
        return f"a record of {len(self.state) if isinstance(self.state, dict) else 0} values"


class _Dictionary:
    """Stands in for dictionaries with a type of their own."""

    def __new__(cls, *_arguments: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Text:
    """Stands in for texts with a type of their own."""

    def __new__(cls, text: object = "", *_more: object) -> str:  # type: ignore[misc]
        return text if isinstance(text, str) else ""


def _empty_list(*_arguments: object) -> list[Any]:
    """Stands in for ``deque``, whose items follow one by one."""
    return []


def _path(*parts: object) -> str | InertValue:
    return _joined(PurePosixPath, parts)


def _windows_path(*parts: object) -> str | InertValue:
    return _joined(PureWindowsPath, parts)


def _joined(
    kind: type[PurePosixPath | PureWindowsPath], parts: tuple[object, ...]
) -> str | InertValue:
    texts = [part for part in parts if isinstance(part, str)]
    # A text is stored once and may be named a thousand times.
    if len(texts) < len(parts) or sum(map(len, texts)) + len(texts) > _MOST_CHARACTERS:
        return InertValue("path")
    return str(kind(*texts))


#: For ``torch.serialization.safe_globals``, under the names that Python 3 has for them.
PYTHON_STAND_INS: tuple[StandIn, ...] = (
    *(
        (_Type(name.rpartition(".")[2]), name)
        for name in (
            "builtins.slice", "builtins.range", "builtins.frozenset", "builtins.list",
            "builtins.dict", "builtins.tuple", "builtins.int", "builtins.float", "builtins.bool",
            "builtins.str", "datetime.datetime", "datetime.date", "datetime.time",
            "datetime.timedelta", "datetime.timezone", "decimal.Decimal", "fractions.Fraction",
        )
    ),
    (_Fields, "argparse.Namespace"), (_Fields, "types.SimpleNamespace"), (_Fields, "uuid.UUID"),
    (_Dictionary, "collections.defaultdict"), (_Dictionary, "easydict.EasyDict"),
    (_Dictionary, "yacs.config.CfgNode"),
    (_Dictionary, "lightning.fabric.utilities.data.AttributeDict"),
    (_Dictionary, "lightning_fabric.utilities.data.AttributeDict"),
    (_Dictionary, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (_empty_list, "collections.deque"),
    (_Text, "torch.torch_version.TorchVersion"),
    *((_path, f"{where}.{name}") for where in ("pathlib", "pathlib._local")
      for name in ("PosixPath", "PurePosixPath", "Path", "PurePath")),
    *((_windows_path, f"{where}.{name}") for where in ("pathlib", "pathlib._local")
      for name in ("WindowsPath", "PureWindowsPath")),
)  # fmt: skip

#: What Python 2 called some of them, which is what pickles of protocol 2 say.
OLD_NAMES = {"xrange": "range", "long": "int", "unicode": "str"}
