"""Which file system `/boot` is, so that nothing is written when it is another one.

With the boot partition not mounted, `/boot` is an ordinary directory of the running slot: boot
files written there reach no boot loader, and the update would look done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Optional

from ..errors import SlotUnusable
from ..host.mounts import mount_points
from ..host.run import run
from ..model import Device
from .base import backend_for

#: Recorded where `/boot` is no mount point: below --root, and for directory back-ends.
PLAIN_DIRECTORY = "directory"

_BY_UUID = Path("/dev/disk/by-uuid")


def record_path(device: Device) -> Path:
    """The file on the boot partition that says which partition it is."""
    return device.state_directory / "setup.json"


def format_record(identity: str) -> bytes:
    """The content of that file."""
    return json.dumps({"schema": 1, "boot_partition": identity}).encode() + b"\n"


def recorded(device: Device) -> Optional[str]:
    """The identity `ota setup` recorded; None where there is no usable record.

    Raises SlotUnusable where it can not be read.
    """
    path = record_path(device)
    try:
        identity = json.loads(path.read_bytes())["boot_partition"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None
    except OSError as error:
        raise SlotUnusable(
            f"{path} can not be read: {error.strerror}",
            hint="the disk may be failing, see `dmesg`; `ota setup --repair` writes a new one",
            slug="boot-partition",
        ) from None
    return identity if isinstance(identity, str) else None


def shared(device: Device) -> Path:
    """Where both slots mount the partition they share. Raises BootRefused without a back-end."""
    return backend_for(device).shared(device)


def identify(device: Device) -> str:
    """`UUID=...` of the file system that both slots share, or `directory`.

    Raises SlotUnusable when a machine with a real boot loader has no such partition mounted, and
    BootRefused without a back-end.
    """
    if not backend_for(device).boots_machines:
        return PLAIN_DIRECTORY
    here = os.path.realpath(shared(device))
    mounted = [point for point in mount_points() if point.path == here]
    if mounted:
        return f"UUID={_uuid(shared(device))}"
    if not device.is_this_machine:
        return PLAIN_DIRECTORY
    raise SlotUnusable(
        f"{shared(device)} is not a mount point: the slots must share a boot partition",
        hint="mount the boot partition there, with a line in /etc/fstab; see ota-boot(7)",
        slug="no-boot-partition",
    )


def _uuid(boot: Path) -> str:
    number = boot.stat().st_dev
    for link in _BY_UUID.glob("*"):
        if link.exists() and link.stat().st_rdev == number:
            return link.name
    node = _node(number)
    show_uuid = ["blkid", "-p", "-s", "UUID", "-o", "value"]
    found = run([*show_uuid, node], ok=(0, 2)).stdout.decode().strip() if node else ""
    if not found:
        raise SlotUnusable(
            f"the file system on {boot} has no UUID",
            hint="a boot partition is an ext4 or FAT partition",
            slug="no-boot-partition",
        )
    return found


def _node(number: int) -> Optional[str]:
    """The device node by the kernel's own name for it, for systems without udev (sysfs)."""
    uevent = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent")
    lines = uevent.read_text().splitlines() if uevent.exists() else []
    names = [line.partition("=")[2] for line in lines if line.startswith("DEVNAME=")]
    return f"/dev/{names[0]}" if names else None
