"""What is loaded when it is first asked for: names of a package, and what notebooks show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        homes: module of `ferd_eval` → the names it has, with spaces between them.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def __getattr__(name: str) -> Any:  # noqa: N807 -- the module's
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"ferd_eval.{home_of[name]}"), name)

    return __getattr__


class ShownInNotebooks:
    """What notebooks show as the tables of its report.

    The report is made by a layer above, which is loaded by its name: figures do not depend on it.
    """

    def _repr_html_(self) -> str:
        return str(import_module("ferd_eval.report.notebook").html(self))
