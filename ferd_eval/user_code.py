"""Code that the user names on the command line: ``FILE.py:NAME``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, did_you_mean


def load_from_file(spec: str, flag: str) -> tuple[Any, str]:
    """Import ``FILE.py`` and return its ``NAME`` with the file's SHA-256.

    Raises:
        UserError: the spec is malformed, the file is missing or fails, or has no such name.
    """
    path_text, _, name = spec.rpartition(":")
    file = Path(path_text)
    if not path_text or not name.isidentifier():
        raise UserError(f"{flag} {spec} is not FILE.py:NAME, e.g. {flag} mine.py:make.")
    if not file.is_file():
        raise UserError(f"{flag}: there is no file {file}. Give FILE.py:NAME.")
    loader = importlib.util.spec_from_file_location(f"_user_{file.stem}", file)
    if loader is None or loader.loader is None:
        raise UserError(f"{flag}: {file} is not a Python file. Give FILE.py:NAME.")
    module = importlib.util.module_from_spec(loader)
    # Dataclasses and pickling inside the file look the module up by name.
    sys.modules[module.__name__] = module
    try:
        loader.loader.exec_module(module)
    except Exception as reason:
        raise UserError(
            f"{flag}: {file} fails with {type(reason).__name__}: {reason}. --debug shows where."
        ) from reason
    if not hasattr(module, name):
        public = [word for word in vars(module) if not word.startswith("_")]
        raise UserError(f"{flag}: {file} has no {name!r}.{did_you_mean(name, public)}")
    return getattr(module, name), hashlib.sha256(file.read_bytes()).hexdigest()
