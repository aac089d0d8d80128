"""The back-end of containers, demos and tests: a marker file instead of a boot loader.

Whoever starts the container reads `/boot/ota/directory-boot`; no script reads it before a
journal is replayed, so a durable rename is enough. It is one JSON object:

    {"schema": 1, "default": "a", "trial": "b" | null, "good": ["a"], "txn": "..."}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Optional

from ..core.grubenv import REPAIR_HINT, BootVariables
from ..errors import BootRefused
from ..host.ops import Flush, MakeDirectory, Op, ReadBackStart, Remove, WriteFile
from ..model import (
    SLOT_NAMES,
    Bootable,
    BootFile,
    BootFiles,
    BootState,
    Device,
    DirectorySlot,
    SlotBoot,
    SlotName,
)
from . import layout
from .choice import armed, committed, disarmed, regained, withdrawn

needs_boot_files = False

_READY_TEXT = b"the directory is complete\n"


def marker(device: Device) -> Path:
    """The file that says what boots."""
    return device.state_directory / "directory-boot"


def detect(device: Device) -> bool:
    slots = device.slots.values()
    return bool(slots) and all(isinstance(slot, DirectorySlot) for slot in slots)


def read(device: Device) -> BootState:
    """What the marker says. Raises BootRefused when it is missing or damaged."""
    return stored(device)


def stored(device: Device) -> BootState:
    found = parse(_text(marker(device)))
    slots = {slot: SlotBoot(is_intact(device, slot), slot in found.good) for slot in SLOT_NAMES}
    return BootState(found.default, found.trial, slots, found.txn)


def salvage(device: Device) -> Optional[BootState]:
    return None


def integrate(device: Device) -> List[Op]:
    """Nothing: whoever starts the container reads the marker."""
    return []


def mark_good(device: Device, slot: SlotName) -> List[Op]:
    """Nothing: there is no second place for what the marker says."""
    return []


def initialize(device: Device, state: BootState) -> List[Op]:
    return _switch(device, disarmed(state))


def is_intact(device: Device, slot: SlotName) -> bool:
    return layout.holds_something(layout.ready_mark(device, slot))


def withdraw(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return [
        *_switch(device, withdrawn(state, slot)),
        MakeDirectory(layout.slot_directory(device, slot)),
        Remove(layout.ready_mark(device, slot)),
        Flush((layout.slot_directory(device, slot),)),
    ]


def install(device: Device, slot: SlotName, files: Optional[BootFiles]) -> List[Op]:
    ready = layout.ready_mark(device, slot)
    return [
        MakeDirectory(ready.parent),
        WriteFile(ready, _READY_TEXT),
        Flush((ready, ready.parent)),
        ReadBackStart(ready, _READY_TEXT),
    ]


def refresh(
    device: Device, slot: SlotName, kernel: BootFile, initrd: Optional[BootFile]
) -> List[Op]:
    """Nothing: no kernel is booted."""
    return []


def arm(device: Device, state: BootState, bootable: Bootable) -> List[Op]:
    return _switch(device, armed(state, bootable))


def commit(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return _switch(device, committed(state, slot))


def revert(device: Device, state: BootState) -> List[Op]:
    return _switch(device, disarmed(state))


def regain(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return _switch(device, regained(state, slot))


def parse(text: bytes) -> BootVariables:
    """The content of a marker file. Raises BootRefused when it is damaged."""
    try:
        document = json.loads(text)
        found = BootVariables(
            default=document["default"],
            trial=document["trial"],
            good=tuple(document["good"]),
            txn=str(document["txn"]),
        )
        if {found.default, found.trial or "a", *found.good} - set(SLOT_NAMES):
            raise ValueError("it names no slot")
    except (ValueError, KeyError, TypeError) as error:
        raise BootRefused(
            f"directory-boot is damaged: {error}", hint=REPAIR_HINT, slug="env-damaged"
        ) from None
    return found


def compose(variables: BootVariables) -> bytes:
    """The content of a marker file that says `variables`."""
    document = {
        "schema": 1,
        "default": variables.default,
        "trial": variables.trial,
        "good": list(variables.good),
        "txn": variables.txn,
    }
    return json.dumps(document).encode() + b"\n"


def _switch(device: Device, wanted: BootVariables) -> List[Op]:
    text = compose(wanted)
    return [WriteFile(marker(device), text), ReadBackStart(marker(device), text)]


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BootRefused(
            f"{path} is missing", hint="run `ota setup`", slug=layout.NOT_SET_UP
        ) from None
    except OSError as error:
        raise BootRefused(f"{path} can not be read: {error.strerror}") from None
