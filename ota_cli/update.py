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

import threading
import time
import uuid
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Iterator, List, Optional

from .confirmable import require_confirmable
from .core import record as phases
from .core.delta import make_plan
from .core.plan import Plan
from .core.record import Record, SlotRecord, Transaction
from .errors import Footprint, leaving
from .events import Done, Emit, Phase, PhaseStarted
from .fill import fill, slot_errors
from .fit import require_fit, require_space, space_bytes, wire_bytes, work_ahead
from .host import ops, store
from .host.mounts import enter_private_namespace
from .host.net import Fetcher, NetSettings
from .model import Checked, Device, Image, SlotName, VerifyLocal, other_slot
from .newsystem import adapt, boot_files, flush_and_read_back
from .policy import signer_policy, trust
from .probe import require_running
from .remember import remember
from .seal import seal_of, usable_level
from .slots import needs_mounts, readable, running_root, standby_root, will_format
from .source import fetching, obtain, version_name
from .survey import Survey, survey
from .trial import (
    Agreement,
    Session,
    alone,
    arm,
    open_session,
    require_intact,
    stay,
    view_session,
)
from .verify import write_metadata, write_slot_index


@dataclass(frozen=True)
class Request:
    """What the user asked for. `url`: the image's base URL. `name`: for images without one.
    `txn`: the transaction this is part of; empty for one of its own."""

    url: str
    net: NetSettings
    name: str = ""
    stage_only: bool = False
    allow_downgrade: bool = False
    retry_failed: bool = False
    may_format: bool = True
    self_confirm: bool = True
    txn: str = ""


@dataclass(frozen=True)
class Preview:
    """What an update would do. `image_is_running`: nothing is to be filled. `armed`: what the
    next boot tries until then.

    `wire_bytes`: bytes the server would send. `space_bytes`: new content for the standby slot.
    """

    version: str
    image: Image
    slot: SlotName
    plan: Plan
    image_is_running: bool
    armed: Optional[SlotName]
    wire_bytes: int
    wire_is_exact: bool
    space_bytes: int
    will_format: bool

    @property
    def is_available(self) -> bool:
        """Whether an update would change anything: also what boots next."""
        return not self.image_is_running or self.armed is not None


@dataclass(frozen=True)
class Updated:
    """What an update did. `plan` None: the image runs; `taken_back`: what was armed beside it.
    `armed`: the next boot tries `slot`. `verify_local`: how much of the standby slot was read."""

    version: str
    slot: SlotName
    image: Image
    plan: Optional[Plan]
    downloaded_bytes: int
    seconds: float
    armed: bool
    carried: List[str]
    verify_local: VerifyLocal
    taken_back: Optional[SlotName] = None

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
        image = obtain(fetcher, *trust(device, record), emit)
    runs = _is_running(device, record, image)
    if not runs:
        require_fit(device, record, image, request.allow_downgrade, request.retry_failed)
    level = usable_level(device, record, slot, emit)
    plan = _plan_without_touching(device, slot, image, level, emit)
    wire, exact = wire_bytes(image, plan)
    emit(Done())
    return Preview(
        version=version_name(image, request.name, request.url), image=image, slot=slot, plan=plan,
        image_is_running=runs, armed=session.boot.trial, wire_bytes=wire, wire_is_exact=exact,
        space_bytes=space_bytes(plan), will_format=will_format(device.slots[slot]),
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
        image = obtain(fetcher, *trust(device, session.record), emit)
        version = version_name(image, request.name, request.url)
        if _is_running(device, session.record, image):
            taken_back = session.boot.trial
            with nullcontext() if request.stage_only else agreement(False):
                stay(session, emit)
            emit(Done())
            return Updated(
                version, session.running, image, None, 0, _since(started), False, [], "full",
                taken_back,
            )  # fmt: skip
        require_fit(device, session.record, image, request.allow_downgrade, request.retry_failed)
        txn = request.txn or uuid.uuid4().hex[:12]
        staging = _Staging(session, request, image, version, txn)
        staged = staging.stage(fetcher, emit)
        if not request.stage_only:
            with leaving(Footprint.STANDBY), agreement(True) as joint:
                emit(PhaseStarted(Phase.BOOT, f"arming slot {staged.checked.slot}"))
                arm(device, session.backend, staged.checked, joint, emit)
    emit(Done())
    return Updated(
        version, staged.checked.slot, image, staged.plan, staging.wire.bytes,
        _since(started), not request.stage_only, staged.carried, staged.verify_local,
    )  # fmt: skip


def _plan_without_touching(
    device: Device, slot: SlotName, image: Image, level: VerifyLocal, emit: Emit
) -> Plan:
    with ExitStack() as stack:
        if needs_mounts(device):  # an update that finds its slot mounted would fail for good
            stack.enter_context(store.exclusive(device))
            enter_private_namespace()
        running = stack.enter_context(running_root(device))
        location = device.slots[slot]
        standby = None if will_format(location) else stack.enter_context(readable(location))
        if standby is not None and not standby.is_dir():
            standby = None
        seen = survey(image.tables.regulars, standby, running, emit, unlock=False, level=level)
    return make_plan(image.tables, seen.standby, seen.content)


def _is_running(device: Device, record: Record, image: Image) -> bool:
    running = device.running
    return running is not None and record.slots[running].image_id == image.image_id


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


@dataclass
class _Wire:
    """Counts received bytes; called from download threads."""

    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count


@dataclass(frozen=True)
class _Staged:
    checked: Checked
    plan: Plan
    carried: List[str]
    verify_local: VerifyLocal


@dataclass(frozen=True)
class _Staging:
    """One verified image on its way into the standby slot: the steps plan to install."""

    session: Session
    request: Request
    image: Image
    version: str
    txn: str
    wire: _Wire = field(default_factory=_Wire)

    @property
    def device(self) -> Device:
        return self.session.device

    @property
    def slot(self) -> SlotName:
        return other_slot(self.session.running)

    def stage(self, fetcher: Fetcher, emit: Emit) -> _Staged:
        """The slot holds the image, its boot files are in place, when this returns."""
        if needs_mounts(self.device):
            enter_private_namespace()
        withdrawal = self._withdrawal()
        level = usable_level(self.device, self.session.record, self.slot, emit)
        with leaving(Footprint.STANDBY), ExitStack() as stack:
            with leaving(Footprint.NOTHING):
                running = stack.enter_context(running_root(self.device))
                standby = stack.enter_context(self._standby(withdrawal, emit))
            with leaving(self._touched()):
                seen = survey(
                    self.image.tables.regulars, standby, running, emit, unlock=True, level=level
                )
                plan = make_plan(self.image.tables, seen.standby, seen.content)
                require_space(self.device, self.slot, standby, plan, seen.standby, self.image)
            emit(work_ahead(self.image, plan))
            self._withdraw(withdrawal, emit)
            self._fill(standby, running, plan, seen, fetcher, emit)
            carried = self._adapt(standby, running, emit)
            self._check(standby, plan, seen, carried, emit)
            self._install(standby, emit)
        checked = Checked(self.slot, self.txn)  # only now: the unmount wrote out the last of it
        with leaving(Footprint.STANDBY):
            self._record_staged(level, emit)
        return _Staged(checked, plan, carried, level)

    def _standby(self, withdrawal: List[ops.Op], emit: Emit) -> AbstractContextManager[Path]:
        @contextmanager
        def formatting() -> Iterator[None]:
            with leaving(Footprint.STANDBY):
                self._withdraw(withdrawal, emit)
                yield

        return standby_root(
            self.device, self.slot, emit, may_format=self.request.may_format, formatting=formatting
        )

    def _touched(self) -> Footprint:
        """Whether the slot was withdrawn already, because it had to be formatted."""
        is_withdrawn = store.load_record(self.device) != self.session.record
        return Footprint.STANDBY if is_withdrawn else Footprint.NOTHING

    def _withdrawal(self) -> List[ops.Op]:
        """What takes the slot out of every choice. Raises where the running one would not boot."""
        require_intact(self.session, self.session.running)
        backend = self.session.backend
        return backend.withdraw(self.device, backend.read(self.device), self.slot)

    def _withdraw(self, withdrawal: List[ops.Op], emit: Emit) -> None:
        """Nobody boots this slot before it is `ready` again; the intent is recorded first."""
        record = self.session.record
        slots = {**record.slots, self.slot: SlotRecord("staging", self.version, txn=self.txn)}
        transaction = Transaction(
            self.txn, "update", phases.STAGING, self.session.running, self.slot,
            self.image.image_id, self.version, store.now(),
        )  # fmt: skip
        staging = replace(record, slots=slots, transaction=transaction)
        known = store.load_record(self.device)
        remember(self.device, known, staging.without_own_joint(), emit)
        ops.apply(withdrawal)

    def _fill(
        self, standby: Path, running: Optional[Path], plan: Plan, seen: Survey,
        fetcher: Fetcher, emit: Emit,
    ) -> None:  # fmt: skip
        fetch = fetching(fetcher, self.image, self.wire.add, emit)
        attributes = self.image.tables.attributes
        fill(standby, running, plan, seen.standby, attributes, fetch, emit)

    def _adapt(self, standby: Path, running: Optional[Path], emit: Emit) -> List[str]:
        with slot_errors(standby):
            carried = adapt(self.device, self.slot, self.image, running, standby, emit)
            write_metadata(standby, self.image, carried)
        return carried

    def _check(
        self, standby: Path, plan: Plan, seen: Survey, carried: List[str], emit: Emit
    ) -> None:
        with slot_errors(standby):
            flush_and_read_back(standby, self.image, plan, carried, emit)
            write_slot_index(standby, self.image, plan, seen.standby, carried)
        if self.request.self_confirm and self.session.backend.needs_boot_files:
            policy = signer_policy(self.device, self.session.record)
            require_confirmable(standby, self.image, policy)

    def _install(self, standby: Path, emit: Emit) -> None:
        backend = self.session.backend
        files = None
        if backend.needs_boot_files:
            emit(PhaseStarted(Phase.BOOT, "copying kernel and initrd to the boot partition"))
            files = boot_files(self.device, self.slot, self.image, standby, self.txn)
        ops.apply(backend.install(self.device, self.slot, files))

    def _record_staged(self, level: VerifyLocal, emit: Emit) -> None:
        created = self.image.claims.details.created
        record = store.load_record(self.device)
        staged = record.with_slot(
            self.slot, state="staged", image_id=self.image.image_id, since=store.now(),
            created=created.isoformat() if created else None, verify_local=level,
            seal=seal_of(self.device.slots[self.slot]),
        )  # fmt: skip
        assert staged.transaction is not None
        transaction = replace(staged.transaction, phase=phases.STAGED)
        remember(self.device, record, replace(staged, transaction=transaction), emit)
