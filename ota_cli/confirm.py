"""Confirming a trial boot: nothing else makes a slot the default.

    checks     the health checks pass, from inside the trial boot                record
    alone      the boot back-end's one write                                     boot order
    jointly    `healthy` is noted, and the other ECUs of the update waited for   record
    decided    all are healthy: the ECU that decides confirms itself first       boot order
    told       then the others do                                                boot order there

The switch needs no room. So a full boot partition keeps no sound system from being confirmed alone,
and no failed check from being told: what could not be noted of it is warned of.

That the decision is the deciding ECU's own switch makes it one atomic write: cut off before it,
that ECU returns to its old system and nobody was told anything; after it, its new system boots,
finds the mark `joint-decided` and tells those that do not know yet.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Optional, Sequence, Union

from .core import record as phases
from .core.cmdline import parse as parse_cmdline
from .core.outcome import committed
from .core.record import JointCommit, Record
from .errors import (
    BootRefused,
    Footprint,
    NoSpace,
    OtaError,
    SignalReceived,
    TrialFailed,
    leaving,
)
from .events import Emit, Warned
from .health import HealthReport, run_checks
from .host import ops, store
from .model import Device, SlotName
from .remember import if_room, remember
from .trial import Session, open_session, require_intact, trial_reached


@dataclass(frozen=True)
class Committed:
    """The running slot is the default. `was_trial`: it was on trial until now."""

    slot: SlotName
    version: Optional[str]
    was_trial: bool
    health: HealthReport

    is_default = True


@dataclass(frozen=True)
class Healthy:
    """The running slot passed its health checks; it is confirmed when other ECUs did, too."""

    slot: SlotName
    version: Optional[str]
    health: HealthReport

    was_trial, is_default = True, False


def commit(device: Device, emit: Emit) -> Union[Committed, Healthy]:
    """Confirms the running trial boot after its health checks, unless it waits for other ECUs.

    Raises TrialFailed when a check fails (nothing is confirmed) or when the last trial already
    fell back. A confirmed system stays confirmed: then there is nothing to do.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        slot = session.running
        version = session.record.slots[slot].version
        if session.boot.default == slot and not session.on_trial:
            if pending(session.record) is None:
                _require_no_fall_back(session.record)
                if session.boot.trial is None:  # what a commit that was cut off may have left
                    _make_default(session, emit)
            return Committed(slot, version, False, HealthReport(()))
        record = _reached(session, emit)
        try:
            health = _passed(device, record, emit)
        except TrialFailed:
            if session.boot.trial is not None:  # a boot loader that would try it once more
                lead_back(session)
            raise
        require_intact(session, slot)  # may mount; the checks have to see all that is mounted
        if record.is_joint and session.on_trial:
            _note_healthy(device, record, emit)
            return Healthy(slot, version, health)
        _confirm(session, record, emit)
    return Committed(slot, version, True, health)


def decide(device: Device, joint: JointCommit, emit: Emit) -> JointCommit:
    """All ECUs of `joint` are healthy: this one, which decides, confirms itself if it takes part.

    What is then to be told. Idempotent. Raises TrialFailed where its own trial is over, or
    something else was begun.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        record = session.record
        known = record.joint
        if known is not None and known.txn == joint.txn and known.decided:
            return known
        _require_waiting(session, joint.txn)
        with leaving(Footprint.BOOT):
            ops.apply([ops.WriteFile(store.decided_mark(device), f"{joint.txn}\n".encode())])
        decided = replace(joint, decided=store.now(), untold=joint.ecu_ids)
        if joint.takes_part:
            _confirm(session, record, emit)
        else:
            store.save_record(device, replace(record, joint=decided))
        return decided


def pending(record: Record) -> Optional[JointCommit]:
    """What this ECU has still to decide for others, or has decided and not told all of them.

    Not before it is healthy itself, nor where its own trial has ended: then all return.
    """
    joint, last = record.joint, record.transaction
    if joint is not None and joint.decides and joint.decided:
        return joint if joint.untold else None
    joint = record.open_joint
    if joint is not None and joint.takes_part and last and last.phase != phases.HEALTHY:
        return None
    return joint


def commit_decided(device: Device, txn: str, emit: Emit) -> None:
    """The ECU above has decided: what waits here is confirmed. Idempotent.

    Raises TrialFailed where it does not wait, or does no longer.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        last = session.record.transaction
        if last is not None and last.txn == txn and last.phase == phases.COMMITTED:
            return
        _require_waiting(session, txn)
        _confirm(session, session.record, emit)


def note_told(device: Device, txn: str, ecu_ids: Sequence[str]) -> None:
    """These ECUs have acknowledged the decision on `txn`."""
    with store.exclusive(device):
        record = store.load_record(device)
        joint = record.joint
        if joint is None or joint.txn != txn:
            return
        untold = tuple(each for each in joint.untold if each not in ecu_ids)
        store.save_record(device, replace(record, joint=replace(joint, untold=untold)))
        if not untold:
            ops.apply([ops.Remove(store.decided_mark(device))])


def give_up(device: Device, txn: str, why: str, emit: Emit) -> Optional[JointCommit]:
    """This ECU, which decides, will never confirm `txn`. What it has decided before, if it has."""
    with store.exclusive(device):
        record = open_session(device, emit).record
        joint = record.joint
        if joint is None or joint.txn != txn:
            return None
        if joint.decided:
            return joint
        remember(device, record, record.without_decision(why), emit)
        return None


def _require_no_fall_back(record: Record) -> None:
    last = record.transaction
    if last is not None and last.phase == phases.FELL_BACK:
        raise TrialFailed(
            f"{last.version or 'the update'} fell back: {last.reason}",
            hint="`ota status` tells more",
            slug="fell-back",
        )


def _require_waiting(session: Session, txn: str) -> None:
    """Raises TrialFailed unless what `txn` brought here, if anything, waits to be confirmed."""
    last, joint = session.record.transaction, session.record.joint
    is_known = joint is not None and joint.txn == txn
    if joint is not None and is_known and joint.given_up:
        raise TrialFailed(joint.given_up, hint="see `ota status`", slug="given-up")
    if joint is not None and is_known and joint.decides and not joint.takes_part:
        return
    if last is None or last.txn != txn or not is_known:
        raise TrialFailed(
            "another update or switch was begun since", hint="see `ota status`", slug="not-waiting"
        )
    _require_no_fall_back(session.record)
    if not session.on_trial or last.phase != phases.HEALTHY:
        raise TrialFailed(
            f"{last.version or 'the update'} is {last.phase} here and does not wait to be "
            "confirmed",
            hint="see `ota status`",
            slug="not-waiting",
        )


def _reached(session: Session, emit: Emit) -> Record:
    """The record with the fact, made durable where there is room, that the trial boot reached user
    space."""
    record = trial_reached(session)
    if record != session.record:
        with if_room(emit):
            remember(session.device, session.record, record, emit)
    return record


def _passed(device: Device, record: Record, emit: Emit) -> HealthReport:
    """The checks, all of which passed. Raises TrialFailed, which the record remembers where it has
    room."""
    health = run_checks(device, emit)
    last = record.transaction
    if not health.failed:
        return health
    if last is not None:
        phase = phases.TRIAL if last.phase == phases.HEALTHY else last.phase
        reason, output = health.failed[0].reason, health.failed_output
        failed = replace(last, phase=phase, reason=reason, output=output)
        with if_room(emit):
            remember(device, record, replace(record, transaction=failed), emit)
    raise TrialFailed(
        health.failed[0].reason, hint="a reboot returns to the old system", slug="health-check"
    )


def _note_healthy(device: Device, record: Record, emit: Emit) -> None:
    """What is healthy is given more time than a trial boot, for the others may be slow.

    Raises TrialFailed where it was given up meanwhile: it has not failed itself, and returns.
    """
    last, joint = record.transaction, record.joint
    assert last is not None
    assert joint is not None
    healthy = replace(last, phase=phases.HEALTHY, reason=joint.given_up)
    remember(device, record, replace(record, transaction=healthy), emit)
    if joint.given_up:
        hint = "a reboot returns to the old system"
        raise TrialFailed(joint.given_up, hint=hint, slug="given-up")
    own_s = parse_cmdline(device.cmdline).deadline_s
    store.extend_deadline(device, max(0, device.settings.fleet_deadline_s - own_s))


def _confirm(session: Session, record: Record, emit: Emit) -> None:
    with leaving(Footprint.BOOT):
        _make_default(session, emit)
        with if_room(emit):
            remember(session.device, record, _ended(record, session.running), emit)
    _bring_rule(session, emit)


def _make_default(session: Session, emit: Emit) -> None:
    """A trial that could not be confirmed stays one, and the next boot ends it."""
    device, backend, slot = session.device, session.backend, session.running
    with leaving(Footprint.BOOT):
        try:
            with store.mark_held(device):
                ops.apply(backend.commit(device, session.boot, slot))
        except (OtaError, SignalReceived):
            lead_back(session)
            raise
        with if_room(emit):
            ops.apply(backend.mark_good(device, slot))


def lead_back(session: Session) -> None:
    """The next boot does not try the running system once more, unless it is confirmed. What can
    not be done here the deadline unit does."""
    device, backend = session.device, session.backend
    with suppress(OtaError):
        boot = backend.read(device)
        if session.on_trial and boot.default != session.running:
            ops.apply(backend.lead_back(device, boot))


def _ended(record: Record, slot: SlotName) -> Record:
    last = record.transaction
    if last is None or last.to_slot != slot:
        return record.with_slot(slot, state="good", since=store.now()).with_time_of(slot)
    return committed(record, last, store.now())


def _bring_rule(session: Session, emit: Emit) -> None:
    """The rule of this `ota` replaces an older one, now that it is what stays.

    The commit is done; a rule that can not be written is only warned of.
    """
    try:
        ops.apply(session.backend.integrate(session.device))
    except (BootRefused, NoSpace) as error:
        emit(Warned(f"the boot loader keeps its older rule: {error.message}"))
