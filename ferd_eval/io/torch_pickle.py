"""What a torch file's pickle would cost to read, found out without reading it.

``torch.load(weights_only=True)`` calls only functions that it knows, but lets a few kilobytes ask
for any amount of time or memory: a tuple that holds its predecessor twice, sixty times over, takes
centuries to hash; ``_codecs.encode(x, "hex")`` doubles x each time; a storage may claim more than
the file has. `require_modest` walks through the same instructions on stand-ins and refuses such a
file beforehand. An honest one describes each thing once, so it costs no more than its own length.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ferd_eval.errors import message_of

#: Bytes of one number by the name of its storage; others count as one byte.
_ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "QInt32Storage": 4,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip

#: What is made by calling it with a size; honest files use these as names only.
_MADE_BY_SIZE = re.compile(r"torch(\.\w+)*\.\w*(Tensor|Storage)")
_REBUILDERS = re.compile(r"torch\._utils\._rebuild_\w+")
_ENCODE, _CODECS = "_codecs.encode", ("latin1", "latin-1")
_BYTEARRAY = re.compile(r"(builtins|__builtin__)\.bytearray")
_BY_TYPE = "torch._tensor._rebuild_from_type_v2"

#: Small shared tuples, such as the betas of an optimiser, are in order.
_SPARE = 1000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_LENGTH = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1",
}  # fmt: skip


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True, eq=False)
class _Tuple:
    """A tuple; `cost` is the number of things in it, all the way down."""

    items: tuple[Any, ...]
    cost: int


class _Thing:
    """Anything else."""


def require_modest(path: Path) -> None:
    """Refuse a torch file that would take more than it holds, before torch reads it.

    ValueError: it would, or what it holds cannot be told; the message says what asks for it.
    OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"
        stream.seek(0)
        if is_zip:
            _require_modest_zip(stream, path.stat().st_size)
        else:
            _require_modest_legacy(stream, path.stat().st_size)


def _require_modest_zip(stream: IO[bytes], size: int) -> None:
    try:
        archive = zipfile.ZipFile(stream)
    except Exception as reason:  # what this cannot list, torch might
        raise ValueError(f"its directory is damaged: {reason}") from reason
    with archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch.save never does")
        claimed = sum(entry.file_size for entry in entries)
        if claimed > size:
            raise ValueError(f"it claims {claimed} bytes of content in a file of {size}")
        room = {entry.filename.rpartition("/data/")[2]: entry.file_size for entry in entries}
        for entry in entries:
            if entry.filename.split("/")[-1] == "data.pkl":
                with archive.open(entry) as pickled:
                    stored = _Walk().run(pickled)
                for key, wanted in stored.items():
                    if wanted > room.get(key, size):
                        raise ValueError(
                            f"it claims {wanted} bytes for storage {key[:40]}, which has "
                            f"{room.get(key, 0)}"
                        )


def _require_modest_legacy(stream: IO[bytes], size: int) -> None:
    """Five pickles in a row: magic number, version, system, content, keys of the storages."""
    claimed = 0
    bounded = cast(IO[bytes], _Bounded(stream, size))
    for _ in range(5):
        claimed += sum(_Walk().run(bounded).values())
    if claimed > size:
        raise ValueError(f"it claims {claimed} bytes of content in a file of {size}")


class _Bounded:
    """A file that never makes room for more than is left of it, whatever it is asked for."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._size = size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._size - self._stream.tell()))


class _Walk:
    """The stack machine of `torch._weights_only_unpickler` on stand-ins."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, int] = {}
        self._steps = 0
        self._hashed = 0

    def run(self, stream: IO[bytes]) -> Mapping[str, int]:
        """Walk through the next pickle; return the bytes of each storage it names, by key.

        What torch does not read ends the walk: torch refuses it there, too. ValueError: it would
        take more than it holds, or is damaged.
        """
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._steps += 1
                if opcode.name == "STOP" or not self._step(opcode.name, argument):
                    break
        except _TooCostly as reason:
            raise ValueError(f"{reason}, so it would take more than it holds") from None
        except Exception as reason:  # whatever the parsers tripped over
            raise ValueError(f"its pickle is damaged: {message_of(reason, 100)}") from reason
        return self._storages

    def _step(self, name: str, argument: Any) -> bool:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            stack.append(_Thing())
        elif name == "EMPTY_TUPLE":
            self._push_tuple([])
        elif name in _TUPLE_LENGTH:
            self._push_tuple(self._pop(_TUPLE_LENGTH[name]))
        elif name == "TUPLE":
            self._push_tuple(self._pop_to_mark())
        elif name == "MARK":
            self._below.append(stack)
            self._stack = []
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_Global(argument.replace(" ", ".")))
        elif name in ("APPEND", "BUILD"):
            self._pop(1)
        elif name == "APPENDS":
            self._pop_to_mark()
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            self._hash(items[::2])
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self._pop(2)
            self._call(function, arguments)
        elif name == "BINPERSID":
            self._name_storage(self._pop(1)[0])
        else:
            return name == "PROTO"
        return True

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._below.pop()
        return items

    @property
    def _bound(self) -> int:
        return 2 * self._steps + _SPARE

    def _push_tuple(self, items: list[Any]) -> None:
        cost = 1 + sum(_cost(item) for item in items)
        if cost > self._bound:
            raise _TooCostly(f"a tuple of {cost} parts after {self._steps} instructions")
        self._stack.append(_Tuple(tuple(items), cost))

    def _hash(self, keys: list[Any]) -> None:
        self._hashed += sum(_cost(key) for key in keys)
        if self._hashed > self._bound:
            raise _TooCostly(f"keys of {self._hashed} parts after {self._steps} instructions")

    def _call(self, function: Any, arguments: Any) -> None:
        items = arguments.items if isinstance(arguments, _Tuple) else ()
        if isinstance(function, _Global):
            _require_cheap(function.name, items)
        # What is made of a tuple, such as torch.Size, may be as large.
        made = _Tuple((), _cost(arguments)) if items else _Thing()
        self._stack.append(made)

    def _name_storage(self, said: Any) -> None:
        items = said.items if isinstance(said, _Tuple) else ()
        if len(items) >= 5 and isinstance(items[1], _Global) and isinstance(items[4], int):
            item_bytes = _ITEM_BYTES.get(items[1].name.rpartition(".")[2], 1)
            key, size = _text(items[2]), items[4] * item_bytes
            if size < 0:
                raise _TooCostly(f"a storage of {items[4]} numbers")
            self._storages[key] = max(size, self._storages.get(key, 0))
        self._stack.append(_Thing())


class _TooCostly(Exception):  # noqa: N818
    """The pickle is refused."""


def _cost(item: Any) -> int:
    return item.cost if isinstance(item, _Tuple) else 1


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _require_cheap(name: str, items: tuple[Any, ...]) -> None:
    """Refuse calls whose result may be larger than their arguments."""
    if _MADE_BY_SIZE.fullmatch(name) and items:
        raise _TooCostly(f"a call of {name}")
    if name == _ENCODE and not (len(items) == 2 and items[1] in _CODECS):
        raise _TooCostly(f"a call of {name} with a codec that is not latin1")
    if _BYTEARRAY.fullmatch(name) and any(isinstance(item, int) for item in items):
        raise _TooCostly(f"a call of {name} with a size")
    if name == _BY_TYPE:
        inner = items[0].name if items and isinstance(items[0], _Global) else ""
        if not _REBUILDERS.fullmatch(inner):
            raise _TooCostly(f"a call of {name} for {inner or 'nothing'}")
