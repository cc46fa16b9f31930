"""Memory that tensors leave stays with the process.

glibc hands every block of over 32 MiB back to the system at once and fetches the next one anew, and the
kernel fills each page with zeros when it is first written. A private training on cached features spends a
third of its time there, an attack on a smoothed network, with its many copies, a quarter. Results do not
depend on it.
"""

import ctypes
import gc
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Numbers of glibc's parameters, from its malloc.h."""
EXTRA = 64 << 20
"""Bytes by which the heap grows at least, so that it does so rarely."""
NEVER = 2**31 - 1
OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Beginnings of environment variables by which a user has chosen an allocator or its parameters."""


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep what is freed, for the next tensors; return whether it does.

    It does nothing with another C library, or where the environment names an allocator or its parameters.
    """
    library = _glibc()
    if library is None or any(name.startswith(OWN) for name in os.environ):
        return False
    parameters = ((MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER), (TOP_PAD, EXTRA))
    taken = [library.mallopt(number, value) == 1 for number, value in parameters]
    return all(taken)


def return_freed_memory() -> None:
    """Hand what nothing uses back to the system, between two stages; also what only cycles of objects hold.

    A training leaves its images in such cycles, tens of MiB for each network of a small fleet.
    """
    gc.collect()
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the process's C library if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
