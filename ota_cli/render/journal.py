"""What changes a device, in its journal, also when a person runs `ota` on a terminal.

The journal is never waited for: one that is absent, full or stuck loses the entry, and nobody
notices. Its native protocol is a datagram of `KEY=value` lines
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Mapping, Tuple

from ..core.text import printable
from ..errors import Footprint, OtaError
from ..events import Changed, Event
from .priority import ERROR, priority
from .stream import NothingToUndo
from .words import of_ecu

#: Below the root of a device.
SOCKET = Path("run/systemd/journal/socket")
#: A datagram has to fit into a socket's buffer.
_MAX_VALUE = 4000
_IN_THE_MIDDLE = (Footprint.STANDBY, Footprint.BOOT)


class JournalOutput(NothingToUndo):
    """Tells each change, and how a command failed that had begun to change the device.

    `socket`: where the journal listens. `tells_failures`: false where it reads stderr anyway.
    """

    def __init__(self, socket: Path, command: str, *, tells_failures: bool) -> None:
        self._socket = socket
        self._command = command
        self._tells_failures = tells_failures
        self._has_changed = False

    def emit(self, event: Event) -> None:
        ecu_id, inner = of_ecu(event)
        if not isinstance(inner, Changed):
            return
        self._has_changed = True
        self._send({
            "MESSAGE": f"{ecu_id}: {inner.text}" if ecu_id else inner.text,
            "PRIORITY": str(priority(event)), "OTA_STATE": inner.state, "OTA_SLOT": inner.slot,
            "OTA_VERSION": inner.version, "OTA_TRANSACTION": inner.txn, "OTA_ECU": ecu_id,
        })  # fmt: skip

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        """What was changed is told already."""

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        if not self._tells_failures:
            return
        if self._has_changed or error.footprint in _IN_THE_MIDDLE:
            self._send({
                "MESSAGE": error.message, "PRIORITY": str(ERROR), "OTA_ERROR": error.slug,
                "OTA_EXIT_CODE": str(error.exit_code), "OTA_HINT": error.hint,
            })  # fmt: skip

    def _send(self, fields: Mapping[str, str]) -> None:
        common = {"SYSLOG_IDENTIFIER": "ota", "OTA_COMMAND": self._command}
        send_entry(self._socket, {**fields, **common})


def send_entry(socket_path: Path, fields: Mapping[str, str]) -> None:
    """Sends one entry, or does not; never waits, never raises. Fields without a value are left
    out; what would end a line, or steer a terminal, is sent as an escape."""
    import socket  # few commands have something to tell

    from ..core.urls import redacted

    told = {
        key: printable(redacted(value, _MAX_VALUE))[:_MAX_VALUE]
        for key, value in fields.items()
        if value
    }
    data = "".join(f"{key}={value}\n" for key, value in told.items()).encode()
    flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with suppress(OSError):
        # The name of a socket has 107 bytes at most, the root of a device may be far down.
        directory = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, flags) as sender:
                sender.sendto(data, f"/proc/self/fd/{directory}/{socket_path.name}")
        finally:
            os.close(directory)
