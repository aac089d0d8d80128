"""Where things lie on the boot partition, for every back-end:

    /boot/ota/slot-X/kernel, initrd, arguments.cfg     what boots slot X (GRUB)
    /boot/ota/slot-X/ready                             it is complete: digests of the above
    /boot/ota/slot-X/refreshed/...                     the same again: wins where it is ready
    /boot/ota/slot-X/good                              its system is known to work

X is `a` or `b`.
"""

from __future__ import annotations

from pathlib import Path
from typing import List

from ..host.ops import Flush, MakeDirectory, Op, ReadBackStart, Remove, WriteFile
from ..model import Device, SlotName

#: Slug of a BootRefused that means "run `ota setup` first", not damage.
NOT_SET_UP = "boot-not-set-up"

GOOD_TEXT = b"known to work\n"


def slot_directory(device: Device, slot: SlotName) -> Path:
    return device.state_directory / f"slot-{slot}"


def kernel(device: Device, slot: SlotName) -> Path:
    return slot_directory(device, slot) / "kernel"


def initrd(device: Device, slot: SlotName) -> Path:
    return slot_directory(device, slot) / "initrd"


def arguments(device: Device, slot: SlotName) -> Path:
    return slot_directory(device, slot) / "arguments.cfg"


def ready_mark(device: Device, slot: SlotName) -> Path:
    return slot_directory(device, slot) / "ready"


def make_ready(device: Device, slot: SlotName, text: bytes) -> List[Op]:
    """The mark that `slot` is complete, written as `text` and read back; for back-ends with no
    other files there."""
    ready = ready_mark(device, slot)
    return [
        MakeDirectory(ready.parent),
        WriteFile(ready, text),
        Flush((ready, ready.parent)),
        ReadBackStart(ready, text),
    ]


def unmake_ready(device: Device, slot: SlotName) -> List[Op]:
    """`slot` is not complete from here on."""
    directory = slot_directory(device, slot)
    return [
        MakeDirectory(directory),
        Remove(ready_mark(device, slot)),
        Flush((directory,)),
    ]


def good_mark(device: Device, slot: SlotName) -> Path:
    return slot_directory(device, slot) / "good"


def holds_something(path: Path) -> bool:
    """True for a file that is not empty: an empty mark is one whose write was cut off."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
