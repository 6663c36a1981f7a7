"""Settings of glibc's heap, for the whole process; no effect without glibc on Linux."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP = 2**31 - 1
_LARGEST_BLOCK = 2**30

#: Bytes that may lie free in the heap.
SPARE = 2**29


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the kernel. For programs only.

    A network on a CPU frees and allocates every layer's maps at each pass. By default the kernel
    clears blocks above some megabytes anew each time, page by page: half the time of a small
    network's pass. Peak memory is the same.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, _KEEP)


def give_back_freed_memory() -> None:
    """Return free heap to the kernel, if it is more than `SPARE`.

    glibc serves an aligned block, as of a tensor, only from a gap larger than the block. The gap it
    leaves is too small once anything small lies beside it, so the heap grows with every tensor, up
    to the size of all of them (glibc's bug 14581).
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library, or an old one
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _Heap
        if libc.mallinfo2().fordblks > SPARE:
            libc.malloc_trim(ctypes.c_size_t(0))
