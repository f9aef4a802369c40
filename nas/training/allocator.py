"""Memory of one step kept for the next, which asks for the same sizes again.

glibc takes each large tensor from the system and gives it back, page by page. Every step then pays
for mapping and zeroing the same pages anew, which was up to two fifths of the time of networks with
large maps (batches of 64 of 32 x 32 pixels, timed by hand); with batches of 16 it is next to none.
What it keeps it searches through: a tenth of the time of networks of many layers (sampled by hand).
jemalloc does not, so a process that trains is started with it wherever it is installed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# of <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER, _MAPPED, _LARGE = 2**31 - 1, 65536, 2**25
# of <jemalloc.h>
_KEEPING = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
_PURGE_ALL = b"arena.4096.purge"
_OURS = "NAS_PRELOADED"  # says that the environment of a process has jemalloc from us


def preloaded() -> dict[str, str]:
    """What is to be in the environment of a new process that trains: jemalloc, if it is here.

    That of the system, or the one that Ray brings. Nothing where another allocator is at work, or
    the user has set one of its variables. Such a process calls `forget_preloaded` first of all.
    """
    library = _jemalloc() if _glibc() else None
    return {"LD_PRELOAD": library, "MALLOC_CONF": _KEEPING, _OURS: "1"} if library else {}


def forget_preloaded() -> None:
    """Lets the processes that this one starts, such as those that measure, have glibc's again."""
    if os.environ.pop(_OURS, None):
        del os.environ["LD_PRELOAD"], os.environ["MALLOC_CONF"]


@cache
def _jemalloc() -> str | None:
    """A library that a Python process was seen to start with."""
    found = [ctypes.util.find_library("jemalloc")]
    ray = find_spec("ray")  # does not import it
    for place in (ray and ray.submodule_search_locations) or ():
        library = Path(place, "core", "libjemalloc.so")
        found += [str(library)] if library.is_file() else []
    return next((library for library in found if library and _starts_with(library)), None)


def _starts_with(library: str) -> bool:
    """Whether it loads: made for pages of another size than this kernel's, it ends the process."""
    asked = "import ctypes; print(hasattr(ctypes.CDLL(None), 'mallctl'))"
    told = os.environ | {"LD_PRELOAD": library, "MALLOC_CONF": _KEEPING}
    done = subprocess.run(
        [sys.executable, "-S", "-c", asked], capture_output=True, text=True, check=False, env=told
    )
    return (done.returncode, done.stdout.strip(), done.stderr) == (0, "True", "")


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within, the process keeps the memory that it frees; behind, the system has it back.

    jemalloc is started so that it keeps it by itself. Does nothing where yet another allocator is
    at work, or the user has set one of glibc's variables.
    """
    libc, process = _glibc(), ctypes.CDLL(None)
    if libc:
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
        libc.mallopt(_MMAP_MAX, 0)
    try:
        yield
    finally:
        if libc:
            libc.mallopt(_MMAP_MAX, _MAPPED)
            libc.mallopt(_MMAP_THRESHOLD, _LARGE)  # where it adapts itself to, were it not touched
            libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGE)
            libc.malloc_trim(0)
        elif hasattr(process, "mallctl"):
            process.mallctl(_PURGE_ALL, None, None, None, ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    """The C library whose `malloc` this process uses, if that is glibc's, as it comes."""
    if not sys.platform.startswith("linux"):
        return None
    if "LD_PRELOAD" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return None
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    replaced = hasattr(libc, "mallctl")
    return libc if hasattr(libc, "gnu_get_libc_version") and not replaced else None
