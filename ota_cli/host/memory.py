"""Keeping the C library's share of memory flat while many threads download and decompress."""

from __future__ import annotations

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
