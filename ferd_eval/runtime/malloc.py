"""How this process asks the system for memory."""

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
    """Let glibc reuse large blocks instead of handing them back to the kernel and asking again.

    A network on a CPU frees and allocates every layer's maps at each pass. By default blocks above
    some megabytes come from the kernel each time, which clears them page by page: half the time of
    a small network's pass. The peak of what is used is the same. Elsewhere than on Linux with glibc
    nothing happens. For programs, not for libraries: it holds for the whole process.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, _KEEP)


def give_back_freed_memory() -> None:
    """Hand what lies free in glibc's heap back to the kernel, if it is more than `SPARE`.

    A tensor's block is aligned, and glibc serves such a request only from a gap that is larger
    than the block, by what alignment may take. A gap that such a block has left is not, once
    anything small has settled beside it: the heap grows for as long as tensors come and go, up to
    the size of all of them (glibc's bug 14581). Elsewhere than on Linux with glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library, or an old one
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _Heap
        if libc.mallinfo2().fordblks > SPARE:
            libc.malloc_trim(ctypes.c_size_t(0))
