"""Running a command and measuring what it took: time, processor, memory, writes to a device."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

SAMPLE_S = 0.05
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Cost:
    """What one run took.

    `cpu_s`: user and system time of all its processes. `peak_pss_bytes`: the most that all of
    them held at once, shared pages counted once. `written_bytes`: to the watched block device.
    `wire_bytes`: what the server sent, None where there is none.
    """

    wall_s: float
    cpu_s: float
    peak_pss_bytes: int
    written_bytes: int
    wire_bytes: Optional[int] = None


def measured(
    argv: Sequence[str], environment: Mapping[str, str], device: Optional[str] = None
) -> Cost:
    """Runs `argv`, which must succeed, from a cold page cache.

    `device`: the block device whose writes are counted, until all of them are on it.
    """
    drop_caches()
    before = _written_bytes(device)
    cpu = _children_s()
    start = time.monotonic()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=nowhere,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    watcher = _Watcher(process.pid)
    with watcher:
        _, said = process.communicate()
    wall = time.monotonic() - start
    if process.returncode != 0:
        raise RuntimeError(f"{argv[:3]} ended with {process.returncode}: {said[-2000:]!r}")
    os.sync()
    return Cost(wall, _children_s() - cpu, watcher.peak, _written_bytes(device) - before)


def drop_caches() -> None:
    """Every run reads from the disk; needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


class _Watcher(threading.Thread):
    """Looks at the memory of all processes of a session until the block ends."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self._end = threading.Event()
        self.peak = 0

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.peak = max(self.peak, sum(_pss_bytes(pid) for pid in _session(self._session)))


def _session(leader: int) -> List[int]:
    """The processes of the session that `leader` leads (proc(5): session is the sixth field)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    found.append(int(name))
    return found


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _written_bytes(device: Optional[str]) -> int:
    """Sectors written so far (Documentation/block/stat.rst: the seventh field)."""
    if device is None:
        return 0
    fields = Path("/sys/block", Path(device).name, "stat").read_text().split()
    return int(fields[6]) * _SECTOR_BYTES
