"""NumPy values in a torch file, read without NumPy's own unpickling.

Training scripts leave ``nature_acc=np.float64(0.83)`` beside the weights. Allowing NumPy's own
functions would be unsafe: a data type's state sets its flags, and a data type of objects without
its flags turns bytes of the file into pointers. So what such a pickle names is answered by
stand-ins that only note their arguments: plain numbers and text come out as Python's, all else as
an object that says what it was.
"""

from __future__ import annotations

import re

import numpy as np

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
