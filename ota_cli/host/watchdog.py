"""Would a kernel that hangs, without a panic, be reset? Only a hardware watchdog can do that."""

from __future__ import annotations

from pathlib import Path

from .run import CommandFailed, run

_NODE = Path("/dev/watchdog0")


def watchdog_advice() -> str:
    """What to do so that a hanging kernel falls back on this machine; empty when all is done."""
    return advice(_NODE.exists(), _runtime_watchdog())


def advice(is_there: bool, runtime: str) -> str:
    """The same from facts: whether there is a watchdog, and what systemd says of
    `RuntimeWatchdogUSec` (systemd-system.conf(5)); empty where it was not asked."""
    if not is_there:
        return (
            "no watchdog device: a new kernel that hangs without a panic stays there until "
            "somebody resets the machine"
        )
    if runtime in ("", "0", "infinity"):
        return (
            "a watchdog device is there, but systemd does not use it: `RuntimeWatchdogSec=30` in "
            "/etc/systemd/system.conf lets a new kernel that hangs fall back; images need it too"
        )
    return ""


def _runtime_watchdog() -> str:
    show = ["systemctl", "show", "--property=RuntimeWatchdogUSec", "--value"]
    try:
        return run(show, timeout_s=10).stdout.decode("ascii", "replace").strip()
    except CommandFailed:
        return ""
