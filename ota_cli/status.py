"""What a device is and will do, for `ota status`: reads only, and works on half a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional

from .boot.base import backend_for
from .core.cmdline import parse as parse_cmdline
from .core.outcome import Verdict, on_trial, settle, verdict
from .core.record import Record, SlotRecord, Transaction
from .errors import BootRefused
from .host import store
from .model import (
    SLOT_NAMES,
    BootState,
    Device,
    DeviceSlot,
    SlotLocation,
    SlotName,
)


@dataclass(frozen=True)
class SlotStatus:
    """One slot: its version, state (DESIGN section 1), and where it is."""

    version: Optional[str]
    state: str
    device: str
    since: Optional[str]


@dataclass(frozen=True)
class Status:
    """A device at a glance. `boot_problem`: why the boot loader could not be read."""

    ecu_id: str
    running: Optional[SlotName]
    next: Optional[SlotName]
    slots: Mapping[SlotName, SlotStatus]
    verdict: Verdict
    last_update: Optional[Transaction]
    boot_problem: str


def read_status(device: Device) -> Status:
    """The status of `device`. Raises ConfigError when its state file is damaged."""
    trial = parse_cmdline(device.cmdline).trial
    boot, problem = _boot(device)
    record = store.load_record(device)
    if boot is not None:
        record = settle(record, boot, device.running, trial, store.now())
    slots: Dict[SlotName, SlotStatus] = {
        name: _slot(device, record, boot, name, trial)
        for name in SLOT_NAMES
        if name in device.slots
    }
    return Status(
        ecu_id=device.ecu.ecu_id, running=device.running, next=boot.next if boot else None,
        slots=slots, verdict=verdict(record, boot, device.running, trial),
        last_update=record.transaction, boot_problem=problem,
    )  # fmt: skip


def _boot(device: Device) -> tuple[Optional[BootState], str]:
    try:
        return backend_for(device).read(device), ""
    except BootRefused as error:
        return None, error.message


def _slot(
    device: Device, record: Record, boot: Optional[BootState], name: SlotName, trial: bool
) -> SlotStatus:
    known = record.slots[name]
    state = _state(known, boot, name, device.running, trial)
    return SlotStatus(known.version, state, describe(device.slots[name]), known.since)


def _state(
    known: SlotRecord,
    boot: Optional[BootState],
    name: SlotName,
    running: Optional[SlotName],
    trial: bool,
) -> str:
    """What the boot loader knows wins over what was recorded."""
    if boot is None:
        return known.state
    if name == running:
        if on_trial(running, trial, boot):
            return "trial"
        return "adopted" if known.state == "unknown" else known.state
    if boot.trial == name:
        return "armed"
    if known.state == "unknown":
        return "empty" if not boot.slots[name].ready else "unknown"
    return known.state


def describe(location: SlotLocation) -> str:
    """A slot's place as a user would name it."""
    return location.spec if isinstance(location, DeviceSlot) else str(location.path)
