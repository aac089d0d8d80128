"""What a device is, was and will do, for `ota status`, `wait` and `history`: reads only, and works
on half a device."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Mapping, Optional, Tuple

from .boot.base import backend_for
from .core.cmdline import parse as parse_cmdline
from .core.history import is_same_end, parse_history
from .core.outcome import Verdict, given_up, on_trial, verdict
from .core.record import COMMITTED, Record, SlotRecord, Transaction
from .errors import BootRefused, Busy, ConfigError, TrialFailed
from .events import Emit, Warned
from .host import store
from .host.capacity import capacity
from .model import (
    SLOT_NAMES,
    BootState,
    Device,
    DeviceSlot,
    SlotLocation,
    SlotName,
)
from .ownkernel import is_outdated
from .remember import recall

_OUTDATED = (
    "packages brought a kernel or initrd that this system does not boot: `ota setup --refresh`"
)
#: How often `wait_for_end` looks: a commit takes seconds, a boot more.
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class SlotStatus:
    """One slot: its version, state (DESIGN section 1), where it is, and how large."""

    version: Optional[str]
    state: str
    device: str
    since: Optional[str]
    size_bytes: Optional[int] = None
    used_bytes: Optional[int] = None


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
    warnings: Tuple[str, ...] = ()


def read_status(device: Device) -> Status:
    """The status of `device`. Raises ConfigError when its state file is damaged."""
    trial = parse_cmdline(device.cmdline).trial
    record, boot, problem = _settled(device)
    said = verdict(
        record, boot, device.running, trial, store.boot_id(device),
        has_others=bool(device.ecu.secondaries),
    )  # fmt: skip
    slots: Dict[SlotName, SlotStatus] = {
        name: _slot(device, record, boot, name, trial)
        for name in SLOT_NAMES
        if name in device.slots
    }
    return Status(
        ecu_id=device.ecu.ecu_id, running=device.running, next=boot.next if boot else None,
        slots=slots,
        verdict=_with_time_left(device, _with_way_out(said, problem)),
        last_update=record.transaction, boot_problem=problem.message if problem else "",
        warnings=(_OUTDATED,) if is_outdated(device) else (),
    )  # fmt: skip


def read_history(device: Device, emit: Emit) -> Tuple[Transaction, ...]:
    """How the updates of `device` ended, the newest first; lines that are damaged are warned of.

    The last end is among them also where it has not been written down yet: that does the next
    `ota` that changes something. Raises ConfigError when the history can not be read.
    """
    told, damaged = parse_history(store.load_history(device))
    if damaged:
        lines = "1 damaged line is" if damaged == 1 else f"{damaged} damaged lines are"
        emit(Warned(f"{store.history_file(device)}: {lines} left out"))
    try:
        last = _settled(device)[0].transaction
    except ConfigError as error:
        emit(Warned(error.message))
        last = None
    if last is not None and last.ended and not (told and is_same_end(told[-1], last)):
        told = (*told, last)
    return tuple(reversed(told))


def wait_for_end(look: Callable[[], Device], timeout_s: float) -> Status:
    """The status once the armed update is confirmed; `look` reads the device anew.

    Raises TrialFailed when it fell back, BootRefused when nothing is armed or on trial or what is
    armed was not tried, and Busy when `timeout_s` seconds brought no end.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        found = read_status(look())
        if found.verdict.code not in ("armed", "trial"):
            return _require_confirmed(found)
        left_s = give_up - time.monotonic()
        if not left_s > 0:  # `nan` seconds are over as well
            raise Busy(
                f"no end after {timeout_s:g} s: {found.verdict.text}",
                hint=found.verdict.hint,
                slug="not-ended",
            )
        time.sleep(min(_LOOK_EVERY_S, left_s))


def _require_confirmed(found: Status) -> Status:
    last, said = found.last_update, found.verdict
    if said.code == "fell_back":
        raise TrialFailed(said.text, hint=said.hint, slug="fell-back")
    if said.code == "confirmed" and last is not None and last.phase == COMMITTED:
        return found
    is_odd = said.code == "disagree"  # an update may well be armed; it is not what was tried
    raise BootRefused(
        said.text if is_odd else f"no update is armed or on trial: {said.text}",
        hint=said.hint or "`ota update` arms one",
        slug="nothing-armed",
    )


def _with_time_left(device: Device, found: Verdict) -> Verdict:
    """A trial's verdict with the seconds until its deadline unit gives up, where that is known."""
    uptime = device.root / "proc" / "uptime"
    if found.code != "trial" or not uptime.is_file():
        return found
    up_s = int(float(uptime.read_text("ascii").split()[0]))
    limit_s = parse_cmdline(device.cmdline).deadline_s + store.load_extension_s(device)
    left_s = max(0, limit_s - up_s)
    return replace(found, text=f"{found.text} It has about {left_s} s left for that.")


def _with_way_out(found: Verdict, problem: Optional[BootRefused]) -> Verdict:
    """What helps against what is wrong with the boot loader is known where that was found."""
    return replace(found, hint=problem.hint) if problem and problem.hint else found


def _settled(device: Device) -> Tuple[Record, Optional[BootState], Optional[BootRefused]]:
    """The settled record, and what the boot loader will do or why that can not be read."""
    boot, problem = _boot(device)
    if boot is None:
        return given_up(store.load_record(device), store.load_given_up(device)), None, problem
    return recall(device, boot), boot, problem


def _boot(device: Device) -> Tuple[Optional[BootState], Optional[BootRefused]]:
    try:
        return backend_for(device).read(device), None
    except BootRefused as error:
        return None, error


def _slot(
    device: Device, record: Record, boot: Optional[BootState], name: SlotName, trial: bool
) -> SlotStatus:
    known = record.slots[name]
    state = _state(known, boot, name, device.running, trial)
    where, room = describe(device.slots[name]), capacity(device, name)
    return SlotStatus(known.version, state, where, known.since, *room)


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
