"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP = 2**31 - 1
_LARGEST_BLOCK = 2**30


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
