"""Whether anybody but `ota` had a slot since its last fill: then its index proves nothing.

A seal is taken when a filled slot has been unmounted, and kept in the record. Whoever mounts a
file system for writing changes its superblock; one that was not unmounted cleanly says so there
(kernel documentation, filesystems/ext4, "Super Block"). Where nothing tells of an unclean stop,
of a directory or a file on the running system, it holds until the next boot.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from .core.record import Record
from .events import Emit, Note
from .model import Device, DeviceSlot, DirectorySlot, SlotLocation, SlotName, VerifyLocal
from .slots import node_of

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SUPERBLOCK_AT, _SUPERBLOCK_BYTES = 1024, 1024
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
_STATE_AT, _CLEAN = 0x3A, 0x1
_INCOMPATIBLE_AT, _NEEDS_RECOVERY = 0x60, 0x4


def seal_of(location: SlotLocation) -> str:
    """The seal of a slot that is not mounted; empty where its file system is not clean or can not
    be looked at. Raises SlotUnusable where there is no such slot."""
    boot = "" if isinstance(location, DeviceSlot) else _BOOT_ID.read_text("ascii").strip()
    if isinstance(location, DirectorySlot):
        return boot
    superblock = _superblock(node_of(location))
    if not _is_clean(superblock):
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


def _superblock(node: str) -> bytes:
    """Nothing where it can not be read: whoever goes on to use the slot tells why."""
    try:
        with open(node, "rb") as stream:
            stream.seek(_SUPERBLOCK_AT)
            return stream.read(_SUPERBLOCK_BYTES)
    except OSError:
        return b""


def _is_clean(superblock: bytes) -> bool:
    if len(superblock) < _SUPERBLOCK_BYTES:
        return False
    magic, state = struct.unpack_from("<HH", superblock, _MAGIC_AT)
    (incompatible,) = struct.unpack_from("<I", superblock, _INCOMPATIBLE_AT)
    return magic == _MAGIC and bool(state & _CLEAN) and not incompatible & _NEEDS_RECOVERY
