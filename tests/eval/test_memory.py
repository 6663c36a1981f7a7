"""Blocks freed and asked for again stay with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import torch
from ferd_eval.memory import keep_freed_memory
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
