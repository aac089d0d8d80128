"""How a kernel is told which slot is `/`."""

from __future__ import annotations

from typing import Optional

from ..errors import SlotUnusable
from ..host.filesystem import probe_file_system
from ..host.run import run
from ..model import Device, DeviceSlot, DirectorySlot, SlotName
from ..slots import node_of


def root_spec(device: Device, slot: SlotName) -> Optional[str]:
    """What `/` of `slot` is mounted from: `PARTUUID=...`; None for directories and files.

    Where no boot loader needs it (containers), a device that is no partition is named by its
    file system, `UUID=...`. Raises SlotUnusable where a kernel could not find the slot.
    """
    location = device.slots[slot]
    if not isinstance(location, DeviceSlot):
        return None
    if location.spec.startswith("PARTUUID="):
        return location.spec
    node = node_of(location)
    argv = ["blkid", "-p", "-s", "PART_ENTRY_UUID", "-o", "value", node]
    uuid = run(argv, ok=(0, 2)).stdout.decode().strip()
    if uuid:
        return f"PARTUUID={uuid}"
    if device.loader == "directory":
        return f"UUID={probe_file_system(node).uuid}"
    raise SlotUnusable(
        f"{location.spec} is no partition with a PARTUUID: no kernel could find its root there",
        hint="name the slot by PARTUUID= in ecu_info.yml",
    )


def extlinux_root(device: Device, slot: SlotName) -> str:
    """What `root=` of a slot's extlinux.conf names; for a directory, which no kernel mounts, its
    place below the device's root. Raises SlotUnusable like `root_spec`."""
    spec = root_spec(device, slot)
    if spec is not None:
        return spec
    location = device.slots[slot]
    if isinstance(location, DirectorySlot):
        return f"/{location.path.relative_to(device.root)}"
    raise SlotUnusable(
        f"slot {slot} is a disk-image file, which no kernel mounts on /",
        hint="name the slot by PARTUUID= in ecu_info.yml",
    )
