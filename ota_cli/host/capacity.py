"""How large a slot is, as far as everybody may know without mounting it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from ..model import Device, DeviceSlot, DirectorySlot, FileSlot, SlotName

#: What udev names by them (systemd's udev rules, 60-persistent-storage.rules).
_BY = {"PARTUUID=": "by-partuuid", "UUID=": "by-uuid", "LABEL=": "by-label"}
_SECTOR_BYTES = 512


class Capacity(NamedTuple):
    """Bytes. None: not known, or, of a directory, not of its own."""

    size_bytes: Optional[int] = None
    used_bytes: Optional[int] = None


def capacity(device: Device, slot: SlotName) -> Capacity:
    """Of the system that runs on this machine also how much is used. Raises nothing."""
    location = device.slots[slot]
    with suppress(OSError, ValueError):
        if isinstance(location, DirectorySlot):
            return Capacity()
        if slot == device.running and device.is_this_machine:
            seen = os.statvfs("/")
            used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
            return Capacity(seen.f_blocks * seen.f_frsize, used)
        if isinstance(location, FileSlot):
            return Capacity(location.path.stat().st_size)
        return Capacity(_partition_bytes(location))
    return Capacity()


def _partition_bytes(location: DeviceSlot) -> int:
    """sysfs counts in sectors of 512 bytes, whatever the disk's are (sysfs-block(5))."""
    node = location.spec
    for key, directory in _BY.items():
        if node.startswith(key):
            node = f"/dev/disk/{directory}/{node[len(key) :]}"
    name = os.path.basename(os.path.realpath(node))
    return int(Path(f"/sys/class/block/{name}/size").read_text("ascii")) * _SECTOR_BYTES
