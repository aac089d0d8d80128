"""What downloads cost and whether they keep to a limit.

Real files from nginx over TLS on loopback. Processor time per small file stands beside what the
HTTP library alone takes for the same requests, one after the other, bodies thrown away.
"""

from __future__ import annotations

import hashlib
import os
import random
import ssl
import statistics
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import httpcore
import zstandard

from ota_cli.entries import Digest
from ota_cli.host.net import Blob, Fetcher, NetSettings
from tests.support.nginx import Nginx

SMALL_FILES = 3000
ROUNDS = 3
KIB = 1024
#: (title, sizes of files, bytes per second, connections)
LIMITS: Sequence[Tuple[str, Sequence[int], int, int]] = (
    ("1000 small files, 32 connections", [12_000] * 1000, 2048 * KIB, 32),
    ("1000 small files, slow", [3_000] * 1000, 500 * KIB, 32),
    ("4 large files", [3_000_000] * 4, 2048 * KIB, 32),
    ("4 large files, 1 connection", [3_000_000] * 4, 2048 * KIB, 1),
    ("32 large files, 32 connections", [1_500_000] * 32, 8192 * KIB, 32),
    ("small and large, very slow", [2_000] * 100 + [200_000], 50 * KIB, 32),
)


def main() -> None:
    """Prints both tables."""
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name, Nginx(Path(name)) as server:
        _rates(Path(name), server)
        _costs(Path(name), server)


def _rates(served: Path, server: Nginx) -> None:
    for title, sizes, limit, connections in LIMITS:
        blobs = [_serve(served, os.urandom(size), compressed=False) for size in sizes]
        own = NetSettings(server.cacert, limit_rate=limit, connections=connections)
        seconds = _timed(time.perf_counter, lambda: _fetch(server, blobs, own))  # noqa: B023
        rate = sum(sizes) / seconds
        print(f"{title:34} {limit / KIB:6.0f} KiB/s   {rate / limit * 100:6.1f} %", flush=True)


def _costs(served: Path, server: Nginx) -> None:
    source = random.Random(1)
    sizes = [int(source.lognormvariate(9, 1.2)) for _ in range(SMALL_FILES)]
    blobs = [_serve(served, os.urandom(size // 2 + 9).hex().encode(), compressed=True)
             for size in sizes]  # fmt: skip
    works: Dict[str, Callable[[], None]] = {
        "HTTP library alone": lambda: _requests_only(server, blobs),
        "ota": lambda: _fetch(server, blobs, NetSettings(server.cacert)),
    }
    taken: Dict[str, List[float]] = {title: [] for title in works}
    for _ in range(ROUNDS):
        for title, work in works.items():
            taken[title].append(_timed(time.process_time, work))
    base = statistics.median(taken["HTTP library alone"])
    for title, seconds in taken.items():
        each = statistics.median(seconds)
        print(f"{title:34} {each / SMALL_FILES * 1000:6.3f} ms of processor per file   "
              f"{each / base:.2f} x")  # fmt: skip


def _serve(served: Path, data: bytes, *, compressed: bool) -> Blob:
    digest = Digest(hashlib.sha256(data).digest())
    (served / digest.hex()).write_bytes(zstandard.compress(data) if compressed else data)
    return Blob(digest, len(data), digest.hex(), compressed)


def _timed(clock: Callable[[], float], work: Callable[[], None]) -> float:
    start = clock()
    work()
    return clock() - start


def _fetch(server: Nginx, blobs: Sequence[Blob], own: NetSettings) -> None:
    with tempfile.TemporaryDirectory(prefix="ota-bench-") as name, Fetcher(
        server.url, own
    ) as fetcher:
        for _ in fetcher.blobs(blobs, Path(name), lambda count: None):
            pass


def _requests_only(server: Nginx, blobs: Sequence[Blob]) -> None:
    context = ssl.create_default_context(cafile=str(server.cacert))
    with httpcore.ConnectionPool(ssl_context=context) as pool:
        for blob in blobs:
            pool.request("GET", server.url + blob.location)
