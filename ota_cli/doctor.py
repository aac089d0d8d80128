"""What keeps a device from being updated, or from booting well: found by reading only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Callable, Iterator, List, Optional, Tuple

from . import __version__
from .boot import partition
from .boot.base import backend_for
from .core.urls import without_secrets
from .errors import BootRefused, ConfigError, NoSpace, OtaError, SlotUnusable, Unreachable
from .fleet.report import Ecu
from .fleet.tree import BUDGET_S, read_tree
from .host.mounts import mount_points
from .host.watchdog import watchdog_advice
from .model import Device, DirectorySlot, SlotLocation, SlotName
from .ownkernel import is_outdated
from .policy import signer_policy, trust
from .probe import require_running
from .setup import check_boot_partition
from .slots import MOUNT_BASE, mounted_at, node_of, require_no_mounts_inside
from .status import describe, read_status
from .trial import require_boot_files

#: Certificates and `expires` of images are compared with the clock.
MAX_CLOCK_SKEW_S = 60


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `trouble` None: it is well, and `text` says how it is."""

    name: str
    text: str
    trouble: Optional[OtaError] = None


def examine(device: Device, with_ecus: bool) -> Iterator[Finding]:
    """All findings about `device`, then those about each ECU below it."""
    for warning in device.warnings:
        yield _bad("configuration", ConfigError(warning))
    for name, look in _CHECKS:
        try:
            yield Finding(name, look(device))
        except OtaError as error:
            yield _bad(name, error)
    if with_ecus and device.ecu.secondaries:
        for ecu in read_tree(device, BUDGET_S):
            yield from findings_of(ecu)


def _bad(name: str, error: OtaError) -> Finding:
    return Finding(name, error.message, error)


def _running_slot(device: Device) -> str:
    slot = require_running(device)
    return f"{slot} runs, on {describe(device.slots[slot])}"


def _slots(device: Device) -> str:
    found = [f"{name} is {_place(slot)}" for name, slot in device.slots.items()]
    return "; ".join(found) or "none are known"


def _mounts(device: Device) -> str:
    """What is mounted while no `ota` runs: those that do have namespaces of their own."""
    left = [each.path for each in mount_points() if each.path.startswith(f"{MOUNT_BASE}/")]
    if left:
        raise SlotUnusable(f"an ota that was ended left {left[0]}", hint=f"umount {left[0]}")
    for name, location in device.slots.items():
        if name != device.running:
            _require_free(name, location)
    return "no slot that is to be filled is in use, and nothing is left over"


def _require_free(slot: SlotName, location: SlotLocation) -> None:
    if isinstance(location, DirectorySlot):
        require_no_mounts_inside(location.path)
        return
    place = mounted_at(node_of(location), location)
    if place:
        raise SlotUnusable(
            f"slot {slot} is mounted on {place}: no update can fill it", hint=f"umount {place}"
        )


def _place(location: SlotLocation) -> str:
    if isinstance(location, DirectorySlot):
        if not location.path.is_dir():
            raise SlotUnusable(
                f"{location.path} is not a directory", hint="correct `slots` in ecu_info.yml"
            )
        return str(location.path)
    return node_of(location)


def _boot_partition(device: Device) -> str:
    check_boot_partition(device)
    return f"{partition.shared(device)} is the one that was set up"


def _boot_order(device: Device) -> str:
    found = read_status(device)
    if found.boot_problem:
        raise BootRefused(found.boot_problem, hint=found.verdict.hint)
    on_trial = found.verdict.code == "trial"
    missing = [] if on_trial else backend_for(device).integrate(device)  # or why it is impossible
    if found.verdict.code == "disagree":
        raise BootRefused(found.verdict.text, hint=found.verdict.hint)
    if missing:
        raise BootRefused("the boot integration of ota is not complete", hint="`ota setup`")
    return found.verdict.text


def _boot_files(device: Device) -> str:
    backend = backend_for(device)
    ready = [name for name, slot in backend.read(device).slots.items() if slot.ready]
    for name in ready:
        require_boot_files(device, backend, name)
    if is_outdated(device):
        raise SlotUnusable(
            "packages brought a kernel or initrd that this system does not boot",
            hint="`ota setup --refresh`",
        )
    return f"whole, of slots {' and '.join(ready)}" if ready else "none are needed"


def _boot_space(device: Device) -> str:
    """An update needs the room of one more kernel and initrd while it replaces the older ones."""
    places = [device.state_directory / f"slot-{name}" for name in device.slots]
    largest = max(map(_bytes_below, places), default=0)
    disk = os.statvfs(device.boot)
    free = disk.f_bavail * disk.f_frsize
    text = f"{free // 1_000_000} MB free; boot files of a slot take {largest // 1_000_000} MB"
    if free < largest:
        raise NoSpace(f"{device.boot}: {text}", hint="remove old kernels from /boot")
    return text


def _watchdog(device: Device) -> str:
    """What is missing is told, but not wrong: many machines have none."""
    if not (device.is_this_machine and backend_for(device).boots_machines):
        return "is asked for on the machine itself"
    return watchdog_advice() or "resets a kernel that hangs"


def _bytes_below(directory: os.PathLike[str]) -> int:
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(directory)
        for name in names
    )


def _anchors(device: Device) -> str:
    store, policy = trust(device)
    if not store.anchors:
        raise ConfigError(
            "no anchor is installed: every image is refused",
            hint="put the certificate of your authority into /etc/ota/certs",
        )
    usable = [each for each in store.anchors if not policy.is_past(each.not_after)]
    if not usable:
        raise ConfigError(
            "all anchors have expired: every image is refused",
            hint="put newer certificates into /etc/ota/certs",
        )
    until = max(each.not_after for each in usable)
    return f"{len(usable)} of {len(store.anchors)} usable, until {until:%Y-%m-%d} at most"


def _clock(device: Device) -> str:
    policy = signer_policy(device)
    if policy.clock_is_wrong:
        raise ConfigError(
            f"it says {policy.now:%Y-%m-%d %H:%M}, but {policy.floor_text}",
            hint=f"{policy.clock_advice}; `timedatectl set-ntp true` keeps it right",
        )
    return f"{policy.now:%Y-%m-%dT%H:%M:%SZ}"


def _proxy(device: Device) -> str:
    proxy = device.proxy
    if not (proxy.enable_local_ota_proxy and device.ecu.secondaries):
        return "none is started by an update"
    if proxy.gateway:
        return "asks the servers for the ECUs below"
    if proxy.upper_ota_proxy:
        return f"asks {without_secrets(proxy.upper_ota_proxy)} for the ECUs below"
    raise ConfigError(
        "the ECUs below can not download: this one is no gateway, and names no next proxy",
        hint="set `gateway: true` or `upper_ota_proxy` in proxy_info.yml",
    )


_CHECKS: Tuple[Tuple[str, Callable[[Device], str]], ...] = (
    ("running slot", _running_slot),
    ("slots", _slots),
    ("mounts", _mounts),
    ("boot partition", _boot_partition),
    ("boot order", _boot_order),
    ("boot files", _boot_files),
    ("boot space", _boot_space),
    ("watchdog", _watchdog),
    ("anchors", _anchors),
    ("clock", _clock),
    ("proxy", _proxy),
)


def findings_of(ecu: Ecu) -> Iterator[Finding]:
    """What is not well on an ECU below and those below it, as its status tells. Pure."""
    name = f"ECU {ecu.ecu_id}"
    if ecu.trouble is not None:
        yield _bad(name, Unreachable(ecu.trouble.message, hint=ecu.trouble.hint))
    else:
        problems = _problems(ecu)
        for problem in problems:
            yield _bad(name, problem)
        if not problems:
            yield Finding(name, f"answers at {ecu.ip_addr}, ota {ecu.ota_version or '?'}")
    for each in ecu.below:
        yield from findings_of(each)


def _problems(ecu: Ecu) -> List[OtaError]:
    found: List[OtaError] = []
    if ecu.ota_version and ecu.ota_version != __version__:
        found.append(
            ConfigError(
                f"its ota is {ecu.ota_version}, this one {__version__}",
                hint="an image for all ECUs brings the same to each",
            )
        )
    skew_s = clock_skew_s(ecu.time, datetime.now(timezone.utc))
    if skew_s is not None and abs(skew_s) > MAX_CLOCK_SKEW_S:
        where = "ahead of" if skew_s > 0 else "behind"
        hint = "set it there: certificates are compared with it"
        found.append(ConfigError(f"its clock is {abs(skew_s):.0f} s {where} this one", hint=hint))
    if ecu.status is not None and ecu.status.verdict.code == "disagree":
        found.append(BootRefused(ecu.status.verdict.text, hint=ecu.status.verdict.hint))
    return found


def clock_skew_s(there: str, here: datetime) -> Optional[float]:
    """By how many seconds `there` (RFC 3339, UTC) is ahead of `here`; None if it is no time."""
    try:
        told = datetime.strptime(there, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return (told - here).total_seconds()
