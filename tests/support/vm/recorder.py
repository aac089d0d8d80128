"""A machine whose every write and flush of its disk is recorded, in order, and the reader of that.

QEMU's `blklogwrites` writes the format of the kernel's device-mapper target log-writes
(Documentation/admin-guide/device-mapper/log-writes): a superblock, then entries of one sector,
each followed by its data.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Iterator, List, NamedTuple, Union

from tests.support.vm.machine import Machine

_MAGIC = 0x6A736677736872
_HEADER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_FLUSH = 1
_ROOM_BYTES = 8 << 30


class Write(NamedTuple):
    """`data` went to byte `offset` of the disk; it may be lost until the next flush."""

    offset: int
    data: bytes


class Flush(NamedTuple):
    """All writes before it are on the disk for good."""


class RecordedMachine(Machine):
    """Its disk is a raw copy; each time it is switched on, a new log begins."""

    def _insert(self, disk: Path) -> None:
        self.disk = self._scratch / "disk.img"
        self._logs: List[Path] = []
        subprocess.run(["cp", "--sparse=always", disk, self.disk], check=True)

    def _drive(self) -> List[str]:
        log = self._scratch / f"writes-{len(self._logs)}.log"
        with open(log, "wb") as file:
            file.truncate(_ROOM_BYTES)
        self._logs.append(log)
        nodes = (
            f"driver=file,filename={self.disk},node-name=disk-file,cache.no-flush=on",
            "driver=raw,file=disk-file,node-name=disk-raw",
            f"driver=file,filename={log},node-name=log-file,cache.no-flush=on",
            "driver=raw,file=log-file,node-name=log-raw",
            "driver=blklogwrites,file=disk-raw,log=log-raw,node-name=recorded",
        )
        words = [word for node in nodes for word in ("-blockdev", node)]
        return [*words, "-device", "virtio-blk-pci,drive=recorded"]

    def record(self) -> Iterator[Union[Write, Flush]]:
        """All that was written since the machine was made, and when it was flushed."""
        for log in self._logs:
            yield from _entries(log)


def _entries(log: Path) -> Iterator[Union[Write, Flush]]:
    """The entries of one log, up to the first that was never written."""
    with open(log, "rb") as file:
        magic, version, _, sector = _HEADER.unpack(file.read(_HEADER.size))
        assert (magic, version) == (_MAGIC, 1), (magic, version)
        file.seek(sector)
        while True:
            start, count, flags, _ = _ENTRY.unpack(file.read(sector)[: _ENTRY.size])
            if not (count or flags):
                return
            assert flags in (0, _FLUSH), f"a virtio disk only writes and flushes: {flags}"
            if flags == _FLUSH:
                yield Flush()
            if count:
                yield Write(start * sector, file.read(count * sector))
