"""What a process frees is still there for its next tensors. In processes of their own: what the
allocator is told stays told."""

import platform
import subprocess
import sys

import pytest

# Blocks too small for pages of their own: glibc gives the heap's end back when all are freed.
CHILD = """
import resource, sys
from amends.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    blocks = [bytearray(100_000) for _ in range(50)]

if "keep" in sys.argv:
    assert keep_freed_memory()
work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""


def page_faults(*arguments: str) -> int:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
    )
    return int(child.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_is_freed_and_wanted_again_costs_no_page_faults() -> None:
    assert page_faults("keep") * 20 < page_faults()
