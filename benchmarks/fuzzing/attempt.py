"""One file handed to one reader, and what came of it."""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.fuzzing.readers import Reader
from benchmarks.fuzzing.watch import Watch
from ferd_eval.errors import UserError

Kind = Literal["accepted", "refused", "uncaught", "code", "memory", "hung", "crashed"]

#: What is no fault of the reader.
FINE: tuple[Kind, ...] = ("accepted", "refused")

_NO_MEMORY = ("MemoryError", "allocate memory", "Unable to allocate", "malloc of size")


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        kind: accepted and refused are right; uncaught is an exception that is no
            `UserError`, or a value of another type; code is anything that `Watch` noted; memory
            an allocation beyond the process's limit; hung and crashed ended the process.
        said: the value's type, or the message.
        where: what tells faults apart: the exception and the last line of ours.
    """

    kind: Kind
    said: str
    where: str = ""
    trace: str = ""


def attempt(reader: Reader, content: bytes, place: Path, folder: Path) -> Outcome:
    """Write the file and read it, watched."""
    place.write_bytes(content)
    with Watch.installed().armed(folder) as seen:
        outcome = _read(reader, folder)
        noted = "; ".join(seen)
    return Outcome("code", noted, noted[:60]) if noted else outcome


def _read(reader: Reader, folder: Path) -> Outcome:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = reader.read(folder)
    except UserError as mistake:
        if _wanted_memory(mistake):
            return _fault("memory", mistake)
        return Outcome("refused", str(mistake))
    except MemoryError as error:
        return _fault("memory", error)
    except Exception as error:
        return _fault("uncaught", error)
    name = type(value).__name__
    if not isinstance(value, reader.kind):
        return Outcome("uncaught", f"returned a {name}", f"returned a {name}")
    return Outcome("accepted", name)


def _wanted_memory(error: BaseException) -> bool:
    """Whether it was refused only because an allocation failed."""
    at: BaseException | None = error
    while at is not None:
        if any(word in f"{type(at).__name__} {at}" for word in _NO_MEMORY):
            return True
        at = at.__cause__ or at.__context__
    return False


def _fault(kind: Kind, error: BaseException) -> Outcome:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/ferd_" in frame.filename] or frames
    last = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    said = f"{type(error).__name__}: {str(error)[:300]}"
    return Outcome(kind, said, f"{type(error).__name__} {last}", traceback.format_exc())
