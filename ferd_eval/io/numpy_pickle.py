"""NumPy values in pickles, read without NumPy's own unpickling: nothing is imported or called.

Torch files: training scripts leave ``nature_acc=np.float64(0.83)`` beside the weights. Allowing
NumPy's own functions would be unsafe: a data type's state sets its flags, and a data type of
objects without its flags turns bytes of the file into pointers. `NUMPY_STAND_INS` answer the names
in such a pickle and only note their arguments: plain numbers and text come out as Python's, all
else as an object that says what it was.

CIFAR's python layout: a pickle is a program for a small stack machine, and the standard library's
``pickle`` runs it: whoever writes the file chooses what is imported and called.
`read_array_pickle` knows only the instructions that dictionaries, lists, numbers, strings and NumPy
arrays are made of; the few functions such a file names are recognised by name.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.inert_values import InertValue, StandIn

# Booleans, integers, floating point and text; complex numbers, dates, records and objects stay
# closed.
_PLAIN = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,4}")


class StoredType:
    """Stands in for ``numpy.dtype``; `code` as in ``f8``, `order` as in ``<``."""

    code: object = None
    order: object = "|"

    def __init__(self, code: object = None, *_flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = state[1]

    def __str__(self) -> str:
        return self.code[:20] if isinstance(self.code, str) else "unknown type"

    def read(self, raw: object) -> str | int | float | bool | None:
        """The one value in `raw`, None unless it is a plain number or text."""
        if not (isinstance(raw, bytes) and isinstance(self.code, str)):
            return None
        if not _PLAIN.fullmatch(self.code):
            return None
        dtype = np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")
        if dtype.itemsize != len(raw):
            return None
        if not raw:  # an empty string has no bytes to look at
            return ""
        value = np.frombuffer(raw, dtype)[0].item()
        return value.decode("latin-1") if isinstance(value, bytes) else value


class StoredArray(InertValue):
    """Stands in for ``numpy.ndarray``: knows its shape and type, holds no numbers."""

    shape: object = ()
    dtype: StoredType | None = None

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            self.shape = state[1]
            self.dtype = state[2] if isinstance(state[2], StoredType) else None

    def __str__(self) -> str:
        shape = self.shape if isinstance(self.shape, tuple) else ()
        sizes = [str(size) for size in shape[:8] if isinstance(size, int)]
        return f"a NumPy array of {'×'.join(sizes) or 1} {self.dtype or 'unknown type'}"


class StoredScalar(InertValue):
    """A NumPy scalar that is neither a plain number nor text."""

    def __init__(self, dtype: StoredType) -> None:
        self.dtype = dtype

    def __str__(self) -> str:
        return f"a NumPy scalar of {self.dtype}"


def _scalar(dtype: StoredType, raw: object = None) -> object:
    """Stands in for ``numpy.core.multiarray.scalar``."""
    value = dtype.read(raw)
    return StoredScalar(dtype) if value is None else value


def _reconstruct(*_arguments: object) -> StoredArray:
    """Stands in for ``numpy.core.multiarray._reconstruct``."""
    return StoredArray()


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, which protocol 2 calls for the content of an empty array."""
    return b""


#: What to allow in place of NumPy's own, for ``torch.serialization.safe_globals``; NumPy 2 moved
#: its internals.
NUMPY_STAND_INS: tuple[StandIn, ...] = (
    (StoredType, "numpy.dtype"),
    (StoredArray, "numpy.ndarray"),
    (_no_bytes, "builtins.bytes"),  # written as __builtin__.bytes
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((_scalar, "scalar"), (_reconstruct, "_reconstruct"))
    ),
)

_T = TypeVar("_T")
_MARK: Final = object()
_NUMBER = re.compile(r"[|<>=]?[bui][1248]")

# NumPy moved its internals in version 2, and Python 3 pickles the bytes of protocols 0 to 2 as text
# to be encoded: one thing has several names.
_RECONSTRUCT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
_SCALAR = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
_ENCODE = {"_codecs.encode"}
_DTYPE = {"numpy.dtype"}
_NDARRAY = {"numpy.ndarray"}
_ALLOWED = _RECONSTRUCT | _SCALAR | _FROM_BUFFER | _ENCODE | _DTYPE | _NDARRAY

_CONSTANTS: Final[dict[str, Any]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_TUPLE_LENGTH = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _DType:
    code: str
    byte_order: str = "|"

    def resolve(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or not _NUMBER.fullmatch(self.code):
            raise ValueError(f"array of type {self.code!r}")
        dtype = np.dtype(self.code)
        return dtype.newbyteorder(">") if self.byte_order == ">" else dtype


@dataclass
class _Array:
    value: NDArray[Any] | None = None


def read_array_pickle(content: bytes | bytearray, path: Path) -> dict[str, Any]:
    """The dictionary that a pickle describes, its keys as text.

    Values are lists, numbers, text, bytes (Python 2 strings too) and arrays of integers. UserError:
    the pickle is damaged, is no dictionary, or names anything beyond NumPy arrays.
    """
    try:
        described = _Machine(path).run(content)
        if not isinstance(described, dict):
            raise ValueError(f"it holds a {type(described).__name__}, not a dictionary")
        return {
            _text(key): value.value if isinstance(value, _Array) else value
            for key, value in described.items()
        }
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path} is not a whole pickle of CIFAR's python layout ({message_of(error, 200)}); "
            "unpack the archive again."
        ) from error


class _Machine:
    """The stack machine of the pickle format, less everything that calls or imports."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes | bytearray) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self._stack[-1]
            self._step(opcode.name, argument)
        raise ValueError("it does not end")

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINSTRING", "SHORT_BINSTRING"):  # Python 2 strings are bytes
            stack.append(argument.encode("latin-1"))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in _TUPLE_LENGTH:
            stack.append(tuple(self._pop(_TUPLE_LENGTH[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop_to_mark() if name == "APPENDS" else self._pop(1)
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop_to_mark() if name == "SETITEMS" else self._pop(2)
            # Text keys only: hashing a nest of tuples can take for ever.
            keys = [_text(key) for key in items[::2]]
            _of(dict, stack[-1]).update(zip(keys, items[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            module, attribute = argument.split(" ", 1) if argument else map(_text, self._pop(2))
            stack.append(self._global(f"{module}.{attribute}"))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._described(_of(_Global, function).name, _of(tuple, arguments)))
        elif name == "BUILD":
            state = _of(tuple, self._pop(1)[0])
            self._set_state(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("it takes more than it put")
        split = len(self._stack) - count
        items = self._stack[split:]
        del self._stack[split:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        depth = len(self._stack) - 1
        while depth >= 0 and self._stack[depth] is not _MARK:
            depth -= 1
        items = self._pop(len(self._stack) - 1 - depth)
        self._pop(1)
        return items

    def _global(self, name: str) -> _Global:
        if name not in _ALLOWED:
            raise UserError(
                f"{self._path} asks for {name[:100]!r}, which a CIFAR file never needs: nothing "
                "was run. Get the archive from its publisher."
            )
        return _Global(name)

    @staticmethod
    def _described(function: str, arguments: tuple[Any, ...]) -> Any:
        if function in _RECONSTRUCT:
            return _Array()
        if function in _DTYPE:
            return _DType(arguments[0] if isinstance(arguments[0], str) else _text(arguments[0]))
        if function in _ENCODE:
            text, codec = arguments
            if _text(codec) not in ("latin1", "latin-1"):
                raise ValueError(f"text in {codec!r}")
            return _of(str, text).encode("latin-1")
        if function in _SCALAR:
            dtype, raw = arguments
            return _array(raw, _of(_DType, dtype), (1,), "C")[0].item()
        if function in _FROM_BUFFER:
            raw, dtype, shape, order = arguments
            return _Array(_array(raw, _of(_DType, dtype), shape, order))
        raise ValueError(f"a call of {function}")

    @staticmethod
    def _set_state(target: Any, state: tuple[Any, ...]) -> None:
        if isinstance(target, _DType):
            target.byte_order = _text(state[1])
        else:
            _, shape, dtype, fortran, raw = state
            _of(_Array, target).value = _array(
                raw, _of(_DType, dtype), shape, "F" if fortran else "C"
            )


def _array(raw: Any, dtype: _DType, shape: Any, order: str) -> NDArray[Any]:
    resolved = dtype.resolve()
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("an array without bytes")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if prod(shape) * resolved.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} in {len(raw)} bytes")
    return np.frombuffer(raw, resolved).reshape(shape, order="F" if order == "F" else "C")


def _of(kind: type[_T], value: Any) -> _T:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__.lstrip('_')} belongs")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise ValueError(f"a {type(value).__name__} where text belongs")
