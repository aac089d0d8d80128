"""After staging: arm, activate, rollback, switch-slot. One rule for all of them:

A slot is armed only as a `Bootable`: checked in this very run, or known good from an earlier
commit or adoption. Arming is one write; only `confirm.commit`, from inside the trial boot and
after its health checks, makes a slot the default.
"""

from __future__ import annotations

import uuid
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Callable, ContextManager, NamedTuple, Optional

from .arming import arm, tell_armed
from .boot.base import Backend, backend_for
from .core import record as phases
from .core.cmdline import parse as parse_cmdline
from .core.outcome import on_trial
from .core.record import JointCommit, Record, Transaction
from .errors import (
    BootRefused,
    Busy,
    ConfigError,
    Footprint,
    OtaError,
    SlotUnusable,
    leaving,
)
from .events import Emit
from .host import ops, store
from .host.mounts import enter_private_namespace
from .model import Bootable, BootState, Checked, Device, KnownGood, SlotName, other_slot
from .policy import trust
from .probe import require_running
from .remember import if_room, recall, remember
from .setup import check_boot_partition
from .slots import needs_mounts, readable, require_sound
from .verify import compare, require_equal, stored_image


@dataclass(frozen=True)
class Switched:
    """`done`: `disarmed` and `nothing` (the running slot boots next), `armed` (`slot` is tried
    next) or `reboot` (that leaves the trial)."""

    done: str
    slot: SlotName
    version: Optional[str]

    @property
    def armed(self) -> bool:
        """Whether the next boot is a trial."""
        return self.done == "armed"


class Staged(NamedTuple):
    """What one transaction brought into standby slots, under the name `version`."""

    txn: str
    version: Optional[str]


#: Surrounds the switch of this ECU; other ECUs may have a say in whether it happens, and in when
#: it is confirmed. It is told whether the next boot will be a trial.
Agreement = Callable[[bool], ContextManager[Optional[JointCommit]]]


def alone(is_trial: bool) -> ContextManager[Optional[JointCommit]]:
    """The agreement of one ECU with nobody."""
    return nullcontext()


@dataclass(frozen=True)
class Session:
    """A device under its lock: what its boot loader says, and the settled record."""

    device: Device
    backend: Backend
    boot: BootState
    record: Record
    running: SlotName

    @property
    def on_trial(self) -> bool:
        trial = parse_cmdline(self.device.cmdline).trial
        return on_trial(self.running, trial, self.boot)

    @property
    def armed(self) -> Optional[SlotName]:
        """The standby slot that the next boot tries. A boot loader that has left its default by
        itself goes on with the slot that runs: nothing is armed then."""
        return self.boot.trial if self.boot.trial != self.running else None

    def require_confirmed(self) -> None:
        """Raises Busy while the running system is on an unconfirmed trial boot."""
        if self.on_trial:
            raise Busy(
                f"slot {self.running} runs on trial and is not confirmed yet",
                hint="`ota commit` confirms it, `ota rollback` returns to the old system",
                slug="unconfirmed-trial",
            )


def view_session(device: Device) -> Session:
    """Reads the boot loader and settles the record in memory; writes nothing, needs no lock."""
    running = require_running(device)
    backend = backend_for(device)
    boot = backend.read(device)
    return Session(device, backend, boot, recall(device, boot), running)


def open_session(device: Device, emit: Emit) -> Session:
    """Reads the boot loader, writes what a commit that was cut off has left, and settles the
    record; call it under the lock.

    Raises SlotUnusable when `/boot` is not the partition that setup recorded.
    """
    backend = backend_for(device)
    check_boot_partition(device)
    left = backend.complete(device)
    with leaving(Footprint.BOOT):
        ops.apply(left)
    session = view_session(device)
    known = store.load_record(device)
    if session.record != known:
        with if_room(emit):  # what has ended is seen again next time
            remember(device, known, session.record, emit)
    return session


def note_joint(device: Device, joint: Optional[JointCommit]) -> None:
    """Other ECUs try a new system, this one does not; `joint`: it decides for them. Under the lock.

    What was decided for an earlier transaction is over.
    """
    record = store.load_record(device)
    if record.joint != joint:
        store.save_record(device, replace(record, joint=joint))
        ops.apply([ops.Remove(store.decided_mark(device))])


def activate(
    device: Device, emit: Emit, agreement: Agreement = alone, txn: str = "",
    only: Optional[Staged] = None,
) -> Switched:  # fmt: skip
    """Arms what `--stage-only` prepared, or a trial that was lost, after re-hashing it.

    `txn`: the transaction this is part of; empty for that in which it was staged. `only`: nothing
    else; an ECU that runs that version already, so that nothing was staged, is left as it is.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        session.require_confirmed()
        slot = other_slot(session.running)
        known = session.record.slots[slot]
        is_other = only is not None and known.txn != only.txn
        if is_other and known.state in ("staged", "armed"):
            raise SlotUnusable(
                f"slot {slot} holds what another update has staged",
                hint="run the same `ota update` for all ECUs again: what is there is kept",
                slug="staged-by-another",
            )
        if only and is_other and session.record.slots[session.running].version == only.version:
            with agreement(False):
                return stay(session, emit)
        if known.state not in ("staged", "armed"):
            raise SlotUnusable(
                f"slot {slot} is {known.state}, not staged",
                hint="`ota update --stage-only` stages an image",
                slug="not-staged",
            )
        checked = _checked(session, slot, txn or known.txn, emit)
        with agreement(True) as joint:
            last = session.record.transaction
            goes_on = last is not None and last.to_slot == slot and last.txn == checked.txn
            if last is None or not goes_on or last.phase not in (phases.STAGED, phases.ARMED):
                _begin(session, "update", slot, checked.txn, emit)
            changes = arm(device, session.backend, checked, joint)
        tell_armed(changes, emit)
    return Switched("armed", slot, known.version)


def rollback(device: Device, emit: Emit, agreement: Agreement = alone, txn: str = "") -> Switched:
    """Takes back what is armed, else goes back to the previous good slot.

    A running trial is rejected: after a reboot its image counts as failed. `txn`: the transaction
    this is part of, which rejects no trial. Raises SlotUnusable when there is no good slot to go
    back to.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        record, target = session.record, other_slot(session.running)
        if txn:
            session.require_confirmed()
        if session.on_trial:
            require_intact(session, target)
            _end_trial(session, emit)
            return Switched("reboot", target, record.slots[target].version)
        if session.armed is not None:
            with agreement(False):
                return stay(session, emit)
        good = known_good(session, target)
        _try(session, "rollback", replace(good, txn=txn or good.txn), agreement, emit)
    return Switched("armed", target, record.slots[target].version)


def stay(session: Session, emit: Emit) -> Switched:
    """The running slot boots next: what is armed is taken back.

    Raises BootRefused when the boot loader would boot another slot all the same.
    """
    running, armed_slot = session.running, session.armed
    stays = session.boot if armed_slot is None else session.boot.disarmed()
    if stays.next != running:
        raise BootRefused(
            f"slot {running} runs, but it is not what the boot loader would boot next",
            hint="`ota status` tells what to do",
            slug="running-not-next",
        )
    version = session.record.slots[running].version
    if armed_slot is None:
        return Switched("nothing", running, version)
    with leaving(Footprint.BOOT):
        _disarm(session)
        with if_room(emit, ConfigError):
            _withdrawn(session.device, session.record, armed_slot, emit)
    return Switched("disarmed", running, version)


def _disarm(session: Session) -> None:
    """What the boot loader itself is told needs no disk: it is told also where the rest fails."""
    device, backend = session.device, session.backend
    try:
        ops.apply(backend.revert(device, session.boot))
    except OtaError:
        with suppress(OtaError):
            ops.apply(backend.lead_back(device, session.boot))
        raise


def switch_slot(
    device: Device,
    slot: Optional[SlotName],
    trust_record: bool,
    emit: Emit,
    agreement: Agreement = alone,
    txn: str = "",
) -> Switched:
    """Boots `slot` (default: the other one) next.

    Unless it is the running one it must hold a known good system, and is re-hashed unless
    `trust_record`. `txn`: the transaction this is part of.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        session.require_confirmed()
        target = slot or other_slot(session.running)
        if target == session.running:
            with agreement(False):
                return stay(session, emit)
        good = known_good(session, target)
        bootable: Bootable = replace(good, txn=txn or good.txn)
        if not trust_record and session.record.slots[target].image_id is not None:
            bootable = _checked(session, target, bootable.txn, emit)
        _try(session, "switch-slot", bootable, agreement, emit)
    return Switched("armed", target, session.record.slots[target].version)


def _try(session: Session, kind: str, bootable: Bootable, agreement: Agreement, emit: Emit) -> None:
    with agreement(True) as joint:
        _begin(session, kind, bootable.slot, bootable.txn, emit)
        changes = arm(session.device, session.backend, bootable, joint)
    tell_armed(changes, emit)


def known_good(session: Session, slot: SlotName) -> KnownGood:
    """A slot that was committed or adopted, boot files and file system whole, untouched since.

    Raises SlotUnusable otherwise.
    """
    known, boot = session.record.slots[slot], session.boot.slots[slot]
    if not known.is_good or not (boot.good and boot.ready):
        raise SlotUnusable(
            f"slot {slot} holds no system that is known to be good (it is {known.state})",
            hint="`ota update` brings one there",
            slug="not-good",
        )
    require_intact(session, slot)
    require_sound(session.device.slots[slot])
    return KnownGood(slot, known.txn)


def _checked(session: Session, slot: SlotName, txn: str, emit: Emit) -> Checked:
    """A slot proven equal to its signed image, byte for byte, in this run.

    Raises SlotUnusable and ImageDamaged unless it is.
    """
    device = session.device
    require_sound(device.slots[slot])  # and what its journal holds is where it will be read
    if needs_mounts(device):
        enter_private_namespace()
    with readable(device.slots[slot]) as root:
        image = stored_image(root, *trust(device, session.record))
        has_run = session.record.slots[slot].is_good
        require_equal(slot, compare(root, image, emit).differences, has_run=has_run)
    require_intact(session, slot)
    return Checked(slot, txn)


def require_intact(session: Session, slot: SlotName) -> None:
    """Raises SlotUnusable unless the boot files of `slot` are what was installed."""
    require_boot_files(session.device, session.backend, slot)


def require_boot_files(device: Device, backend: Backend, slot: SlotName) -> None:
    """The same, where there may be no session."""
    if not backend.is_intact(device, slot):
        mend = "setup --repair" if slot == device.running else "update"
        raise SlotUnusable(
            f"the boot files of slot {slot} are not what was installed",
            hint=f"`ota {mend}` installs them anew",
            slug="boot-files-damaged",
        )


def _begin(session: Session, kind: str, slot: SlotName, txn: str, emit: Emit) -> None:
    known = session.record.slots[slot]
    attempts = session.record.attempts_of(slot, known.image_id)
    transaction = Transaction(
        txn or uuid.uuid4().hex[:12], kind, phases.STAGED, session.running, slot,
        known.image_id, known.version, store.now(), attempts=attempts,
    )  # fmt: skip
    begun = replace(session.record, transaction=transaction)
    remember(session.device, session.record, begun.without_own_joint(), emit)


def trial_reached(session: Session) -> Record:
    """The record with the fact that the trial boot reached user space."""
    record, last = session.record, session.record.transaction
    if last is None or last.to_slot != session.running or last.phase != phases.ARMED:
        return record
    return replace(
        record.with_state(session.running, "trial"),
        transaction=replace(last, phase=phases.TRIAL),
    )


def _end_trial(session: Session, emit: Emit) -> None:
    """The next boot is of the old system, also of a boot loader that would try the new one again;
    that comes first, for the record needs room."""
    device, backend = session.device, session.backend
    with leaving(Footprint.BOOT):
        ops.apply(backend.lead_back(device, session.boot))
        with if_room(emit, ConfigError):
            _reject(session, emit)
        boot = backend.read(device)
        if boot.trial is not None:
            ops.apply(backend.revert(device, boot))


def _reject(session: Session, emit: Emit) -> None:
    """Records that the running trial is not wanted: settled as fallen back after a reboot."""
    record = trial_reached(session)
    last = record.transaction
    reached = (phases.TRIAL, phases.HEALTHY)
    if last is not None and last.to_slot == session.running and last.phase in reached:
        rejected = replace(last, phase=phases.TRIAL, reason="`ota rollback` rejected it")
        remember(session.device, session.record, replace(record, transaction=rejected), emit)


def _withdrawn(device: Device, record: Record, slot: SlotName, emit: Emit) -> None:
    last = record.transaction
    joint = store.load_record(device).joint  # it may have been noted since `record` was read
    back = replace(record, joint=joint).with_state(slot, "staged")
    if last is not None:
        back = replace(back, transaction=replace(last, phase=phases.WITHDRAWN, ended=store.now()))
    remember(device, record, back, emit)
