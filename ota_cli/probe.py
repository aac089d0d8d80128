"""Reading the facts of a device, once. Nothing here changes anything."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Dict, Mapping, Optional

from .boot.base import backend_for, detect_loader
from .core.cmdline import parse as parse_cmdline
from .core.partitions import find_numbered_slots, find_slots
from .errors import ConfigError, SlotUnusable
from .host import nvbootctrl
from .host.config import load_ecu_info, load_proxy_info, load_settings
from .host.run import run
from .host.store import load_trial_mark
from .model import Device, DeviceSlot, DirectorySlot, FileSlot, SlotLocation, SlotName
from .slots import device_number


def probe(root: Path) -> Device:
    """The facts of the device whose root is `root`.

    Raises ConfigError for broken configuration, SlotUnusable when the kernel command line
    names another slot than the one that runs.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise ConfigError(f"{root} is not a directory", hint="--root takes a device's root")
    boot = root / "boot"
    ecu = load_ecu_info(boot)
    proxy, warnings = load_proxy_info(boot)
    cmdline = _cmdline(root)
    device = Device(
        root=root, boot=boot, ecu=ecu, proxy=proxy, settings=load_settings(root),
        cmdline=cmdline, running=None, slots=_slots(root, ecu.slots), loader=None,
        warnings=tuple(warnings),
    )  # fmt: skip
    _require_apart(device)
    device = replace(device, running=_running(device))
    device = replace(device, loader=detect_loader(device))
    mark = load_trial_mark(device) if device.loader and backend_for(device).marks_trials else ""
    return replace(device, cmdline=f"{device.cmdline} {mark}".strip())


def require_running(device: Device) -> SlotName:
    """The running slot. Raises SlotUnusable when it is not known."""
    if device.running is None:
        raise SlotUnusable(
            "it is not known which slot runs",
            hint="the kernel command line should hold ota.slot=; `ota setup` prepares a device",
            slug="unknown-slot",
        )
    return device.running


def _cmdline(root: Path) -> str:
    path = root / "proc" / "cmdline"
    try:
        return path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None


def _slots(
    root: Path, configured: Optional[Mapping[SlotName, SlotLocation]]
) -> Mapping[SlotName, SlotLocation]:
    if configured is not None:
        return {name: _below(root, location) for name, location in configured.items()}
    if root != Path("/"):
        return {}
    columns = "NAME,PATH,PKNAME,TYPE,SIZE,PARTUUID,MAJ:MIN"
    listing = run(["lsblk", "--json", "--bytes", "--list", "-o", columns], ok=(0, 1, 32, 64)).stdout
    find = find_numbered_slots if nvbootctrl.facts(root).is_jetson else find_slots
    return find(listing, _device_text(os.stat("/").st_dev))


def _below(root: Path, location: SlotLocation) -> SlotLocation:
    """The location with its path taken below the device's root."""
    if isinstance(location, DirectorySlot):
        return DirectorySlot(_joined(root, location.path))
    if isinstance(location, FileSlot):
        return FileSlot(_joined(root, location.path))
    return location


def _require_apart(device: Device) -> None:
    """Raises ConfigError where filling one slot would write into the other, the boot partition
    or all of the device."""
    places = {name: _place(slot) for name, slot in device.slots.items()}
    boot = Path(os.path.realpath(device.boot))
    root = Path(os.path.realpath(device.root))
    for name, place in places.items():
        if place is None:
            continue
        others = [other for each, other in places.items() if each != name and other is not None]
        around = [other for other in others if place == other or place in other.parents]
        if around or place in (root, boot) or place in boot.parents or boot in place.parents:
            raise ConfigError(
                f"slot {name} at {place} overlaps {around[0] if around else boot}",
                hint="correct `slots:` in ecu_info.yml: each slot has a place of its own",
                slug="slots-overlap",
            )


def _place(location: SlotLocation) -> Optional[Path]:
    """The real path of a directory or file slot."""
    return None if isinstance(location, DeviceSlot) else Path(os.path.realpath(location.path))


def _joined(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


def _running(device: Device) -> Optional[SlotName]:
    """By device number on this machine; else, and to compare, by `ota.slot=`."""
    named = parse_cmdline(device.cmdline).slot
    mounted = _mounted_on_root(device)
    if device.is_this_machine and any(isinstance(s, DeviceSlot) for s in device.slots.values()):
        if named is not None and mounted != named:
            raise SlotUnusable(
                f"the kernel command line says slot {named}, but "
                f"{f'slot {mounted}' if mounted else 'no slot'} is mounted on /",
                hint="see `slots:` in ecu_info.yml and `lsblk -o NAME,PARTUUID,MOUNTPOINT`",
                slug="slots-disagree",
            )
        return mounted
    return named if named in device.slots else None


def _mounted_on_root(device: Device) -> Optional[SlotName]:
    if not device.is_this_machine:
        return None
    here = os.stat("/").st_dev
    numbers: Dict[SlotName, Optional[int]] = {
        name: device_number(location) for name, location in device.slots.items()
    }
    return next((name for name, number in numbers.items() if number == here), None)


def _device_text(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"
