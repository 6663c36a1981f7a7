"""The user's code, named on the command line as ``FILE.py:NAME``. No other code is ever run."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ferd_eval.errors import UserError, brief, did_you_mean

#: Prefix of the module names of the user's files.
MODULE_PREFIX = "ferd_user_file_"


@dataclass(frozen=True)
class UserCode:
    """A function or class of the user's, and the digest of its file."""

    value: Callable[..., Any]
    path: Path
    name: str
    sha256: str


def load_user_code(spec: str, flag: str) -> UserCode:
    """Run ``FILE.py`` and return its ``NAME``.

    Args:
        spec: ``FILE.py:NAME``.
        flag: the command line's flag, for the messages.

    Raises:
        UserError: the spec is malformed, the file is missing or fails, or has no such callable.
    """
    file, _, name = spec.rpartition(":")
    if not file or not name.isidentifier():
        raise UserError(f"{flag} {spec} must be FILE.py:NAME, e.g. {flag} mine.py:make.")
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{flag} {spec}: there is no file {path}.")
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{flag} {spec}: {path} cannot be read ({error.strerror}).") from error
    module = _import_file(path, sha256, f"{flag} {spec}")
    value = getattr(module, name, None)
    if not callable(value):
        own = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        hint = did_you_mean(name, own) if own else " It defines no function or class."
        raise UserError(f"{flag} {spec}: {path.name} has no {name}.{hint}")
    return UserCode(value, path, name, sha256)


def _import_file(path: Path, sha256: str, who: str) -> ModuleType:
    name = f"{MODULE_PREFIX}{sha256[:16]}"
    module_spec = importlib.util.spec_from_file_location(name, path.resolve())
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{who}: {path.name} is not a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    folder = str(path.resolve().parent)
    # As for a script: its neighbours can be imported, and dataclasses find their module.
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{who}: importing it failed with {brief(error)}.") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module
