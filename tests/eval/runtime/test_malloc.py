"""Blocks freed and asked for again stay with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import torch
from ferd_eval.runtime.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    for _ in range(20):
        maps = [torch.ones(size << 20, dtype=torch.uint8) for size in (4, 40, 12, 60)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="concerns glibc's allocator")
def test_large_blocks_are_not_asked_of_the_kernel_again():
    usual = page_faults("usual")
    if usual < 1000:
        pytest.skip("this system's allocator keeps large blocks by itself")
    assert page_faults("keep") < usual / 10


_GAPS = """
import sys
import numpy as np
from ferd_eval.runtime import malloc
from ferd_eval.runtime.malloc import give_back_freed_memory, keep_freed_memory
def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
keep_freed_memory()
between = []
for _ in range(200):
    block = np.ones(2**20, dtype=np.uint8)
    between.append((block, np.ones(5000, dtype=np.uint8)))
between = [small for _, small in between]
malloc.SPARE = int(sys.argv[1])
full = held()
give_back_freed_memory()
print(full, full - held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="concerns glibc's allocator")
@pytest.mark.parametrize(("spare", "expected"), [(2**27, True), (2**28, False)])
def test_gaps_of_the_heap_are_given_back_when_they_are_large(spare, expected):
    done = subprocess.run(
        [sys.executable, "-c", _GAPS, str(spare)], capture_output=True, text=True, check=True
    )
    full, given = map(int, done.stdout.split())
    if full < 200 * 1024:
        pytest.skip("this system's allocator gives large blocks back by itself")
    assert (given > 150 * 1024) == expected
