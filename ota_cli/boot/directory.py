"""The back-end of containers, demos and tests: a marker file instead of a boot loader.

Whoever starts the container reads `/boot/ota/directory-boot`; no script reads it before a
journal is replayed. `boot.settings` has its format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Mapping, Optional

from ..core.grubenv import BootVariables
from ..host.ops import Op
from ..model import (
    SLOT_NAMES,
    Bootable,
    BootCopies,
    BootFile,
    BootFiles,
    BootState,
    Device,
    DirectorySlot,
    SlotBoot,
    SlotName,
)
from . import layout, settings
from .choice import armed, committed, disarmed, regained, withdrawn

needs_boot_files = False
boots_machines = False
marks_trials = False

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
    found = settings.load(marker(device))
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
    return settings.create(marker(device), disarmed(state))


def is_intact(device: Device, slot: SlotName) -> bool:
    return layout.holds_something(layout.ready_mark(device, slot))


def copies(device: Device, slot: SlotName) -> Optional[BootCopies]:
    """None: no kernel is booted."""
    return None


def occupied_bytes(device: Device, slot: SlotName) -> int:
    return 0


def shared(device: Device) -> Path:
    return device.boot


def adapted(
    device: Device, slot: SlotName, text: Callable[[str], Optional[str]]
) -> Mapping[str, str]:
    """None: a container is told its slot."""
    return {}


def lacking(tree: Path) -> List[str]:
    """Nothing: whoever starts the container ends its trial."""
    return []


def withdraw(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return [*_switch(device, withdrawn(state, slot)), *layout.unmake_ready(device, slot)]


def install(
    device: Device, slot: SlotName, files: Optional[BootFiles], tree: Optional[Path] = None
) -> List[Op]:
    return layout.make_ready(device, slot, _READY_TEXT)


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


def complete(device: Device) -> List[Op]:
    """Nothing: a commit is one write."""
    return []


def lead_back(device: Device, state: BootState) -> List[Op]:
    """Nothing: a switch is one write, done or not."""
    return []


def regain(device: Device, state: BootState, slot: SlotName) -> List[Op]:
    return _switch(device, regained(state, slot))


def _switch(device: Device, wanted: BootVariables) -> List[Op]:
    return settings.save(marker(device), wanted)
