"""Memory that large blocks leave stays with the process, and goes back between stages."""

import os
import subprocess
import sys

import pytest

from seg_mia.heap import OWN

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="counts the page faults of Linux"
)

OTHERS = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
FAULTS = """
import resource, sys
from seg_mia.heap import keep_freed_memory, return_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

def fill(times):
    before = faults()
    for _ in range(times):
        b"1" * (64 << 20)
    return (faults() - before) * resource.getpagesize() / 2**20

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
fill(1)
fetched, held = fill(4), resident()
return_freed_memory()
print(kept, fetched, held - resident())
"""


def measured(how: str, **environment: str) -> tuple[bool, float, float]:
    """Return whether memory is kept, MiB fetched for four blocks after a first, and MiB given back."""
    command = [sys.executable, "-c", FAULTS, how]
    words = subprocess.check_output(command, text=True, env=OTHERS | environment).split()
    return words[0] == "True", float(words[1]), float(words[2])


def test_blocks_of_64_mib_are_fetched_once() -> None:
    kept, fetched, returned = measured("keep")
    if not kept:
        pytest.skip("the C library is not glibc")
    assert fetched < 16
    assert returned > 48
    assert measured("plain")[1] > 200  # of 256: this is what the setting saves


def test_a_chosen_allocator_is_left_alone() -> None:
    assert not measured("keep", MALLOC_ARENA_MAX="2")[0]
