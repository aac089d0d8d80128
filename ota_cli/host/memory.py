"""How much memory is free, and keeping the C library's share of it flat while many threads download
and decompress."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Optional

_MEMINFO = Path("/proc/meminfo")

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
    """What this process may still take without anybody else losing theirs, swap included; None
    where nobody tells. See proc_meminfo(5), getrlimit(2)."""
    try:
        told = _MEMINFO.read_text("ascii", "replace")
    except OSError:
        told = ""
    found = re.findall(r"(?m)^(?:MemAvailable|SwapFree): *([0-9]+) kB$", told)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    known = [sum(map(int, found)) * 1024] if found else []
    known += [limit] if limit != resource.RLIM_INFINITY else []
    return min(known, default=None)
