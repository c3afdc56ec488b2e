"""Keeping freed memory, measured by the page faults of a process that allocates the same memory twice."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys
from roberta.common.commands.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = [ctypes.c_void_p]
kept = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    memory = libc.malloc(64 << 20)
    libc.memset(memory, 1, 64 << 20)
    libc.free(memory)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


def faults(how: str) -> tuple[int, bool]:
    """Page faults of the second allocation, and whether memory is kept."""
    printed = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True).stdout
    count, kept = printed.split()
    return int(count), kept == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of other systems is left alone")
def test_memory_that_was_freed_costs_no_page_faults_again() -> None:
    count, kept = faults("keep")
    if not kept:
        pytest.skip("the C library is not glibc")
    assert count < 100
    assert faults("give back")[0] > 1000
