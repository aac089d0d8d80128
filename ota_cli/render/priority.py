"""How important a line is, as syslog counts it, and how systemd is told (sd-daemon(3))."""

from __future__ import annotations

import os
from typing import Mapping

from ..events import Changed, Event, Warned
from .words import of_ecu

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
NAMES: Mapping[int, str] = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}


def priority(event: Event) -> int:
    """Of what happens; failures are ERROR."""
    _, inner = of_ecu(event)
    if isinstance(inner, Warned):
        return WARNING
    if isinstance(inner, Changed):
        return WARNING if inner.is_bad else NOTICE
    return INFO


def is_journal(descriptor: int) -> bool:
    """Whether what is written there is read by the journal, line by line.

    systemd.exec(5): JOURNAL_STREAM has device and inode of the connection; a program whose stream
    was sent elsewhere since inherits the variable, so both are compared.
    """
    try:
        there = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
