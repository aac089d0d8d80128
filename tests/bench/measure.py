"""Running a command and measuring what it took: time, processor, memory, writes to a device."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Sequence

SAMPLE_S = 0.05
_SECTOR_BYTES = 512
#: kcmp(2), which the C library does not offer, by kind of machine (asm/unistd.h)
_KCMP = {"x86_64": 312, "aarch64": 272}
_KCMP_VM = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Cost:
    """What one run took.

    `cpu_s`: user and system time of all its processes. `peak_pss_bytes`: the most that all of
    them held at once, shared pages counted once. `written_bytes`: to the watched block device.
    `wire_bytes` and `requests`: what the server sent, and how often it was asked. `phases`:
    seconds of its parts, in their order, if it tells them; `download_s`: from the start of its
    downloads until the last was answered. `load`: the machine's load average before.
    """

    wall_s: float
    cpu_s: float
    peak_pss_bytes: int
    written_bytes: int
    load: float
    wire_bytes: int = 0
    requests: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    download_s: Optional[float] = None


class Line(NamedTuple):
    """A line of standard output, and the time of day at which it came."""

    when: float
    text: bytes


class Run(NamedTuple):
    """What a run took, when it began and ended, and what it said meanwhile."""

    cost: Cost
    start: float
    end: float
    lines: Sequence[Line]


def measured(
    argv: Sequence[str], environment: Mapping[str, str], device: Optional[str] = None
) -> Run:
    """Runs `argv`, which must succeed, from a cold page cache.

    `device`: the block device whose writes are counted, until all of them are on it.
    """
    drop_caches()
    before, load, cpu = _written_bytes(device), os.getloadavg()[0], _children_s()
    with tempfile.TemporaryFile() as complaints:
        start = time.time()
        process = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=complaints, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        with _Watcher(process.pid) as watcher, process.stdout as out:
            lines = [Line(time.time(), text) for text in out]
            process.wait()
        end = time.time()
        complaints.seek(0)
        if process.returncode != 0:
            said = complaints.read()[-2000:] or b"".join(line.text for line in lines[-2:])
            raise RuntimeError(f"{argv[:3]} ended with {process.returncode}: {said!r}")
    os.sync()
    written = _written_bytes(device) - before
    cost = Cost(end - start, _children_s() - cpu, watcher.peak, written, load)
    return Run(cost, start, end, lines)


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

    def __enter__(self) -> _Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.peak = max(self.peak, _memory_bytes(_session(self._session)))


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


def _memory_bytes(pids: Sequence[int]) -> int:
    """The PSS of all of them; that of a child which still works in its parent's memory, as vfork
    has it until the child's exec, is the parent's own."""
    counted: List[int] = []
    for pid in pids:
        if not any(_share_memory(pid, other) for other in counted):
            counted.append(pid)
    return sum(map(_pss_bytes, counted))


def _share_memory(pid: int, other: int) -> bool:
    number = _KCMP.get(platform.machine())
    return number is not None and _libc.syscall(number, pid, other, _KCMP_VM, 0, 0) == 0


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
