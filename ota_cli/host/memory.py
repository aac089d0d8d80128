"""How much memory is free, and keeping the C library's share of it flat while many threads download
and decompress."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Optional

_MEMINFO, _STATM = Path("/proc/meminfo"), Path("/proc/self/statm")

# mallopt(3), malloc.h of the GNU C library
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_ARENAS = 2
_LARGE_BYTES = 128 * 1024


def keep_heap_small() -> None:
    """Makes threads share heaps, and gives large blocks back to the system once they are freed.

    Without it each of 32 threads gets a heap of its own, and the limit for large blocks grows
    until the windows of decompressors stay in them: 50 MiB more at the end of an update. To be
    called before there are threads. Other C libraries do neither: then nothing is done.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, _ARENAS)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def free_memory_bytes() -> Optional[int]:
    """What this process may still take without anybody else losing theirs; None where nobody tells.

    Swap does not count: it may be compressed memory. See proc_meminfo(5), getrlimit(2).
    """
    try:
        told = _MEMINFO.read_text("ascii", "replace")
    except OSError:
        told = ""
    found = re.search(r"(?m)^MemAvailable: *([0-9]+) kB$", told)
    known = [int(found[1]) * 1024] if found else []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        known.append(max(limit - _mapped_bytes(), 0))
    return min(known, default=None)


def _mapped_bytes() -> int:
    pages = int(_STATM.read_text("ascii").split()[0])
    return pages * resource.getpagesize()
