"""Memory of one step kept for the next, which asks for the same sizes again.

glibc takes each large tensor from the system and gives it back, page by page. Every step then pays
for mapping and zeroing the same pages anew, which was up to two fifths of the time of networks with
large maps (batches of 64 of 32 x 32 pixels, timed by hand); with batches of 16 it is next to none.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# of <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER, _MAPPED, _LARGE = 2**31 - 1, 65536, 2**25


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within, the process keeps the memory that it frees; behind, the system has it back.

    Does nothing where another allocator is at work, or the user has set one of glibc's variables.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MAPPED)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)  # where it adapts itself to, were it not touched
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library whose `malloc` this process uses, if that is glibc's, as it comes."""
    if not sys.platform.startswith("linux"):
        return None
    if "LD_PRELOAD" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return None
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
