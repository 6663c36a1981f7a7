"""What a reader must not do: run code, start programs, talk to a network, write, import."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn",
    "subprocess.Popen", "socket.", "pickle.find_class", "webbrowser.open",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod",
    "os.chown", "os.truncate", "shutil.", "ftplib.", "smtplib.", "urllib.", "http.client.",
    "code.__new__", "sys.settrace", "sys.setprofile", "builtins.input",
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

#: Modules of Python that make code from our own text.
_MAKERS = ("typing", "dataclasses", "collections")

#: Where Python and the machine keep their own files, which lazy imports and the like read.
_OWN = tuple(
    {
        os.path.realpath(place)
        for place in (sys.prefix, sys.base_prefix, *sys.path, "/usr", "/proc", "/sys", "/etc")
        if place
    }
)


class Watch:
    """An audit hook; hooks stay for as long as the process does, so there is one of them.

    Attributes:
        seen: what happened that should not have, while it was armed.
    """

    _installed: Watch | None = None

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._folder: str | None = None

    @classmethod
    def installed(cls) -> Watch:
        """The one of this process, with the canary in place."""
        if cls._installed is None:
            cls._installed = watch = cls()
            sys.addaudithook(watch._hear)
            canary = types.ModuleType("ferd_canary")
            # In `sys.modules`, so that even an import that is not audited finds it.
            canary.run = lambda *_: watch.seen.append("the canary was called")  # type: ignore[attr-defined]
            sys.modules["ferd_canary"] = canary
        return cls._installed

    @contextmanager
    def armed(self, folder: Path) -> Iterator[list[str]]:
        """Files below `folder` may be read; everything else is noted in the list given out."""
        self.seen.clear()
        self._folder = os.path.realpath(folder)
        try:
            yield self.seen
        finally:
            self._folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None:
            return
        if event == "open":
            self._hear_open(*arguments)
        elif event == "exec":
            # Modules that are imported late have their file's name; a payload has none. `typing`
            # evaluates our own annotations.
            name = getattr(arguments[0], "co_filename", "")
            caller = sys._getframe(1).f_globals.get("__name__")
            if not name.startswith(("/", "<frozen")) and caller not in _MAKERS:
                self._note(f"exec of {name}")
        elif event == "import" and str(arguments[0]).startswith("ferd_canary"):
            self._note(f"import of {arguments[0]}")
        elif event.startswith(_NEVER):
            self._note(f"{event} {str(arguments)[:200]}")

    def _hear_open(self, path: Any, mode: Any, flags: Any) -> None:
        writes = (isinstance(mode, str) and any(c in mode for c in "wax+")) or (
            isinstance(flags, int) and flags & _WRITES
        )
        if writes:
            self._note(f"opened {path!r} to write")
        elif isinstance(path, str | bytes) and self._folder is not None:
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith((self._folder, *_OWN)):
                self._note(f"opened {path!r}")

    def _note(self, what: str) -> None:
        if len(self.seen) < 20:
            self.seen.append(what)
