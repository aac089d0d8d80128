"""Whether anybody but `ota` had a slot since its last fill: then its index proves nothing.

A seal is taken when a filled slot has been unmounted, and kept in the record. Whoever mounts a
file system for writing changes its superblock; one that was not unmounted cleanly says so there.
Where nothing tells of an unclean stop, of a directory or a file on the running system, it holds
until the next boot.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .core.record import Record
from .events import Emit, Note
from .host.superblock import is_clean, read_superblock
from .model import Device, DeviceSlot, DirectorySlot, SlotLocation, SlotName, VerifyLocal
from .slots import node_of

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def seal_of(location: SlotLocation) -> str:
    """The seal of a slot that is not mounted; empty where its file system is not clean or can not
    be looked at. Raises SlotUnusable where there is no such slot."""
    boot = "" if isinstance(location, DeviceSlot) else _BOOT_ID.read_text("ascii").strip()
    if isinstance(location, DirectorySlot):
        return boot
    superblock = read_superblock(node_of(location))
    if not is_clean(superblock):
        return ""
    return hashlib.sha256(superblock + boot.encode()).hexdigest()


def usable_level(device: Device, record: Record, slot: SlotName, emit: Emit) -> VerifyLocal:
    """How much of the standby `slot` has to be read: `stat` only where that was asked for and
    its seal holds. Raises what `seal_of` raises."""
    if device.settings.verify_local == "full":
        return "full"
    seal = record.slots[slot].seal
    if seal and seal == seal_of(device.slots[slot]):
        return "stat"
    emit(Note(f"slot {slot} was not left by a clean stop of ota alone: it is read whole"))
    return "full"
