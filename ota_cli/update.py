"""The story of an update, in the order that keeps a device safe (DESIGN section 4).

    verify     fetch the metadata; only a verified `Image` goes on                  nothing
    plan       fit, survey, plan, space                                             nothing
    withdraw   record `staging`; the standby slot is not bootable from here on      standby
    fill       content, persistent files, fstab                                     standby
    check      sync, read back, can it confirm itself: only then it is `Checked`    standby
    install    kernel and initrd to the boot partition, `ready` last                standby
    arm        one atomic write: the next boot tries the new system                 boot order

The right column says what has been touched when a step fails. The running system never is.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

from . import dryrun
from .arming import arm, tell_armed
from .core import record as phases
from .core.changes import Changes
from .core.plan import Plan
from .core.record import Record, SlotRecord, Transaction
from .core.trust import SignedClaims
from .errors import Footprint, NoSpace, leaving
from .events import Emit, Phase, PhaseStarted, Warned
from .fit import (
    carried_room,
    require_boot_room,
    require_fit,
    require_room,
    space_bytes,
    wire_bytes,
)
from .host import store
from .host.mounts import enter_private_namespace
from .host.net import Fetcher, NetSettings
from .model import Checked, Device, Image, SlotName, VerifyLocal, other_slot
from .policy import trust
from .probe import require_running
from .remember import remember
from .seal import seal_of, usable_level
from .slots import needs_mounts, readable, require_formatted, running_root, will_format
from .source import complete, fetching, offered, version_name
from .staging import Staged, Staging, Wire
from .survey import planned
from .trial import (
    Agreement,
    Session,
    alone,
    open_session,
    stay,
    view_session,
)
from .untouched import Untouched, untouched


@dataclass(frozen=True)
class Request:
    """What the user asked for. `url`: the image's base URL. `name`: for images without one.
    `verify_writes`: read back copies, whatever `ota.yml` says.
    `txn`: the transaction this is part of; empty for one of its own."""

    url: str
    net: NetSettings
    name: str = ""
    stage_only: bool = False
    allow_downgrade: bool = False
    retry_failed: bool = False
    may_format: bool = True
    self_confirm: bool = True
    verify_writes: bool = False
    txn: str = ""


@dataclass(frozen=True)
class Preview:
    """What an update would do. `armed`: what the next boot tries until then. `plan` and `changes`
    None: the image runs, nothing is to be filled.

    `wire_bytes`: bytes the server would send. `space_bytes`: what is new in the standby slot.
    """

    version: str
    image_id: str
    slot: SlotName
    armed: Optional[SlotName]
    plan: Optional[Plan] = None
    changes: Optional[Changes] = None
    wire_bytes: int = 0
    wire_is_exact: bool = True
    space_bytes: int = 0
    will_format: bool = False

    @property
    def image_is_running(self) -> bool:
        """True when nothing is to be filled."""
        return self.plan is None

    @property
    def is_available(self) -> bool:
        """Whether an update would change anything: also what boots next."""
        return not self.image_is_running or self.armed is not None


@dataclass(frozen=True)
class Updated:
    """What an update did. `plan` None: the image runs; `taken_back`: what was armed beside it.
    `armed`: the next boot tries `slot`. `verify_local`: how much of the standby slot was read.
    `verify_writes`: whether copies were read back."""

    version: str
    slot: SlotName
    image_id: str
    plan: Optional[Plan]
    downloaded_bytes: int
    seconds: float
    armed: bool
    carried: List[str]
    verify_local: VerifyLocal
    taken_back: Optional[SlotName] = None
    verify_writes: bool = False

    @property
    def up_to_date(self) -> bool:
        """True when nothing was to be filled: the image runs."""
        return self.plan is None


def preview(device: Device, request: Request, emit: Emit) -> Preview:
    """What an update would do; changes nothing.

    Raises what fetching and verifying raise, DoesNotFit for an image that can not be used, and
    Busy while another `ota` works on slots that have to be mounted for looking.
    """
    session = view_session(device)
    session.require_confirmed()
    slot, record = other_slot(session.running), session.record
    with Fetcher(request.url, request.net) as fetcher:
        signed = offered(fetcher, *trust(device, record), emit)
        version = version_name(signed.claims, request.name, request.url)
        found = Preview(version, signed.image_id, slot, session.armed)
        if _is_running(device, record, signed):
            return found
        require_fit(device, record, signed.claims, request.allow_downgrade, request.retry_failed)
        image = complete(fetcher, signed)
    if not request.may_format:
        require_formatted(device.slots[slot])
    level = usable_level(device, record, slot, emit)
    plan, changes, space = _plan_without_touching(device, slot, image, level, emit)
    wire, exact = wire_bytes(image, plan)
    return replace(
        found, plan=plan, changes=changes, wire_bytes=wire, wire_is_exact=exact,
        space_bytes=space, will_format=will_format(device.slots[slot]),
    )  # fmt: skip


def update(device: Device, request: Request, emit: Emit, agreement: Agreement = alone) -> Updated:
    """Brings the image at the URL into the standby slot and, unless `stage_only`, arms it.

    All that changes the boot order is done inside `agreement`. Raises OtaError with the
    footprint of the step that failed.
    """
    started = time.monotonic()
    require_running(device)
    with store.exclusive(device), Fetcher(request.url, request.net) as fetcher:
        session = open_session(device, emit)
        session.require_confirmed()
        signed = offered(fetcher, *trust(device, session.record), emit)
        version = version_name(signed.claims, request.name, request.url)
        if _is_running(device, session.record, signed):
            taken_back = session.armed
            with nullcontext() if request.stage_only else agreement(False):
                stay(session, emit)
            return Updated(
                version, session.running, signed.image_id, None, 0, _since(started), False, [],
                "full", taken_back,
            )  # fmt: skip
        require_fit(
            device, session.record, signed.claims, request.allow_downgrade, request.retry_failed
        )
        level = usable_level(device, session.record, other_slot(session.running), emit)
        there = untouched(session, signed, level, emit, self_confirm=request.self_confirm)
        image = there.image if there else complete(fetcher, signed)
        wire = Wire()
        staging = _staging(session, request, image, version, level, there)
        staged = staging.stage(fetching(fetcher, image, wire.add, emit), emit)
        with leaving(Footprint.STANDBY):
            _record_staged(device, staging, staged, emit)
        if not request.stage_only:
            _arm(session, staged.checked, agreement, emit)
    return Updated(
        version, staged.checked.slot, image.image_id, staged.plan, wire.bytes,
        _since(started), not request.stage_only, staged.carried, level,
        verify_writes=staged.verify_writes,
    )  # fmt: skip


def _arm(session: Session, checked: Checked, agreement: Agreement, emit: Emit) -> None:
    with leaving(Footprint.STANDBY), agreement(True) as joint:
        emit(PhaseStarted(Phase.BOOT, f"arming slot {checked.slot}"))
        changes = arm(session.device, session.backend, checked, joint)
    tell_armed(changes, emit)


def _plan_without_touching(
    device: Device, slot: SlotName, image: Image, level: VerifyLocal, emit: Emit
) -> Tuple[Plan, Changes, int]:
    """The plan, what it would change, and the bytes that it takes in the slot."""
    with ExitStack() as stack:
        if needs_mounts(device):  # an update that finds its slot mounted would fail for good
            stack.enter_context(store.exclusive(device))
            enter_private_namespace()
        running = stack.enter_context(running_root(device))
        location = device.slots[slot]
        standby = None if will_format(location) else stack.enter_context(readable(location))
        if standby is not None and not standby.is_dir():
            standby = None
        plan, before = planned(image.tables, standby, running, emit, unlock=False, level=level)
        more = carried_room(device, image, plan, running)
        try:
            require_boot_room(device, slot, image)
            if standby is not None:
                require_room(standby, image, plan, before, more)
        except NoSpace as error:
            emit(Warned(f"the update would not fit: {error.message}"))
        space = space_bytes(image, plan, before, standby, more)
        return plan, dryrun.changes(device, image, plan, before, running), space


def _staging(
    session: Session, request: Request, image: Image, version: str, level: VerifyLocal,
    there: Optional[Untouched],
) -> Staging:  # fmt: skip
    txn, slot = request.txn or uuid.uuid4().hex[:12], other_slot(session.running)
    lost = 0 if request.retry_failed else session.record.attempts_of(slot, image.image_id)
    transaction = Transaction(
        txn, "update", phases.STAGING, session.running, slot, image.image_id, version, store.now(),
        attempts=lost,
    )  # fmt: skip
    return Staging(
        session, image, transaction, SlotRecord("staging", version, txn=txn), level,
        may_format=request.may_format, self_confirm=request.self_confirm, there=there,
        verify_writes=request.verify_writes,
    )  # fmt: skip


def _record_staged(device: Device, staging: Staging, staged: Staged, emit: Emit) -> None:
    created = staging.image.claims.details.created
    record, slot = store.load_record(device), staging.slot
    # of a slot that was not filled the seal is the one that proved it
    proven = staging.session.record.slots[slot].seal if staging.there else ""
    filled = record.with_slot(
        slot, state="staged", image_id=staging.image.image_id, since=store.now(),
        created=created.isoformat() if created else None, verify_local=staging.level,
        seal=proven or seal_of(device.slots[slot]), sources=staged.sources,
    )  # fmt: skip
    transaction = replace(staging.transaction, phase=phases.STAGED)
    remember(device, record, replace(filled, transaction=transaction), emit)


def _is_running(device: Device, record: Record, signed: SignedClaims) -> bool:
    running = device.running
    return running is not None and record.slots[running].image_id == signed.image_id


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
