"""A stand-in for journald: a real datagram socket at its place, and a reader of its protocol."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Dict, List, Optional, Type

Entry = Dict[str, str]


class Journal:
    """Listens at run/systemd/journal/socket below `root`, while the block runs."""

    def __init__(self, root: Path) -> None:
        self._path = root / "run/systemd/journal/socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        here = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:  # the name of a socket has 107 bytes at most
            self._socket.bind(f"/proc/self/fd/{here}/{self._path.name}")
        finally:
            os.close(here)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._socket.close()
        self._path.unlink()

    def fill(self) -> None:
        """Takes nothing more, as one that is stuck."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            here = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                while True:
                    sender.sendto(b"MESSAGE=x\n", f"/proc/self/fd/{here}/{self._path.name}")
            except BlockingIOError:
                return
            finally:
                os.close(here)

    def entries(self) -> List[Entry]:
        """What has come since this was last asked."""
        found: List[Entry] = []
        while True:
            try:
                found.append(read_entry(self._socket.recv(1 << 20)))
            except BlockingIOError:
                return found


def read_entry(data: bytes) -> Entry:
    """The fields of a datagram, as systemd.io/JOURNAL_NATIVE_PROTOCOL tells; raises ValueError."""
    found: Entry = {}
    while data:
        line, newline, data = data.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:  # the other form: a length and as many bytes
            end = 8 + int.from_bytes(data[:8], "little")
            value, newline, data = data[8:end], data[end : end + 1], data[end + 1 :]
        name = key.decode("ascii")
        if not newline or not name.replace("_", "").isalnum() or name.upper() != name:
            raise ValueError(f"no field: {line!r}")
        found[name] = value.decode("utf-8")
    return found
