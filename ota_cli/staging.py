"""Bringing one verified image into the standby slot: what `ota update` and `ota verify --repair`
have in common, the steps plan to install of DESIGN section 4.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator, List, Optional

from .confirmable import require_confirmable
from .core.delta import unchanged
from .core.local import LocalTree
from .core.plan import Plan
from .core.record import SlotRecord, Transaction
from .errors import Footprint, OtaError, leaving
from .events import Emit, Phase, PhaseStarted
from .fill import Fetch, Filled, fill, slot_errors
from .fit import carried_room, require_boot_room, require_room, work_ahead
from .host import ops, store
from .host.mounts import enter_private_namespace
from .model import Checked, Device, Image, SlotName, VerifyLocal, other_slot
from .newsystem import adapt, boot_files
from .policy import signer_policy
from .readback import flush_and_read_back, reads_copies
from .remember import remember
from .slots import needs_mounts, running_root, sole_view, standby_root
from .survey import planned
from .trial import Session, require_intact
from .untouched import Untouched, sources_of
from .verify import write_metadata, write_slot_index


@dataclass
class Wire:
    """Counts received bytes; called from download threads."""

    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """So many more have arrived."""
        with self._lock:
            self.bytes += count


@dataclass(frozen=True)
class Staged:
    """What came of a staging: `checked` may be armed. `carried`: what differs from the image;
    `sources`: what that was taken from, see `persistent.sources`. `verify_writes`: whether copies
    were read back."""

    checked: Checked
    plan: Plan
    carried: List[str]
    sources: str
    verify_writes: bool = False


def anything(plan: Plan) -> None:
    """Admits every plan."""


@dataclass(frozen=True)
class Staging:
    """One verified image on its way into the standby slot.

    `transaction`, `intended`: what is on record of it, and of the slot, before that is touched.
    `level`: how much of the slot is read. `admit`: raises where a plan can not be carried out;
    nothing is touched then. `there`: the slot holds it, untouched: nothing is to be filled.
    `verify_writes`: copies are read back, whatever `ota.yml` says.
    """

    session: Session
    image: Image
    transaction: Transaction
    intended: SlotRecord
    level: VerifyLocal
    may_format: bool
    self_confirm: bool
    admit: Callable[[Plan], None] = anything
    there: Optional[Untouched] = None
    verify_writes: bool = False

    @property
    def device(self) -> Device:
        return self.session.device

    @property
    def slot(self) -> SlotName:
        return other_slot(self.session.running)

    def stage(self, fetch: Fetch, emit: Emit) -> Staged:
        """The slot holds the image, its boot files are in place, when this returns; on record it
        is still `intended`. Raises OtaError with the footprint of the step that failed.
        """
        if needs_mounts(self.device):
            enter_private_namespace()
        withdrawal = self._withdrawal()
        try:
            if self.there:
                return self._take(self.there, withdrawal, emit)
            return self._bring(withdrawal, fetch, emit)
        except OtaError as failure:
            if failure.footprint is not Footprint.NOTHING:
                self._unmark(withdrawal)
            raise

    def _bring(self, withdrawal: List[ops.Op], fetch: Fetch, emit: Emit) -> Staged:
        with leaving(Footprint.STANDBY), ExitStack() as stack:
            with leaving(Footprint.NOTHING):
                running = stack.enter_context(running_root(self.device))
                standby = stack.enter_context(self._standby(withdrawal, emit))
            with leaving(self._touched()):
                sources = sources_of(self.device, self.slot, self.image, running)
                tables, level = self.image.tables, self.level
                plan, before = planned(tables, standby, running, emit, unlock=True, level=level)
                more = carried_room(self.device, self.image, plan, running)
                is_roomy = require_room(standby, self.image, plan, before, more)
                require_boot_room(self.device, self.slot, self.image)
                self.admit(plan)
            copies = self._reads_copies(emit)
            emit(work_ahead(self.image, plan, copies=copies))
            self._withdraw(withdrawal, emit)
            filled = fill(
                standby, running, plan, before, tables.attributes, fetch, emit, is_roomy=is_roomy
            )
            carried = self._adapt(standby, running, emit)
            self._check(standby, filled, before, carried, emit, copies=copies)
            self._install(standby, emit)
        # only now is it checked: the unmount wrote out the last of it
        return Staged(Checked(self.slot, self.intended.txn), plan, carried, sources, copies)

    def _take(self, there: Untouched, withdrawal: List[ops.Op], emit: Emit) -> Staged:
        """As `_bring`, of a slot in which nothing has to be changed."""
        with leaving(Footprint.STANDBY), ExitStack() as stack:
            with leaving(Footprint.NOTHING):
                require_boot_room(self.device, self.slot, self.image)
                plan = unchanged(self.image.tables)
                standby = stack.enter_context(sole_view(self.device.slots[self.slot]))
            emit(work_ahead(self.image, plan))
            self._withdraw(withdrawal, emit)
            with slot_errors(standby):
                self._install(standby, emit)
        sources = self.session.record.slots[self.slot].sources
        checked = Checked(self.slot, self.intended.txn)
        return Staged(checked, plan, sorted(there.carried), sources)

    def _unmark(self, withdrawal: List[ops.Op]) -> None:
        """What was `ready` before its last writes failed is not: it was not checked."""
        with suppress(OtaError):
            if self.session.backend.read(self.device).slots[self.slot].ready:
                ops.apply(withdrawal)

    def _standby(self, withdrawal: List[ops.Op], emit: Emit) -> AbstractContextManager[Path]:
        @contextmanager
        def formatting() -> Iterator[None]:
            with leaving(Footprint.STANDBY):
                self._withdraw(withdrawal, emit)
                yield

        return standby_root(
            self.device, self.slot, emit, may_format=self.may_format, formatting=formatting
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
        slots = {**record.slots, self.slot: self.intended}
        staging = replace(record, slots=slots, transaction=self.transaction)
        known = store.load_record(self.device)
        remember(self.device, known, staging.without_own_joint(), emit)
        ops.apply(withdrawal)

    def _adapt(self, standby: Path, running: Optional[Path], emit: Emit) -> List[str]:
        with slot_errors(standby):
            carried = adapt(self.device, self.slot, self.image, running, standby, emit)
            write_metadata(standby, self.image, carried)
        return carried

    def _reads_copies(self, emit: Emit) -> bool:
        configured = self.device.settings.verify_writes
        return reads_copies(self.verify_writes or configured, os.uname().release, emit)

    def _check(
        self, standby: Path, filled: Filled, before: LocalTree, carried: List[str], emit: Emit,
        *, copies: bool,
    ) -> None:  # fmt: skip
        with slot_errors(standby):
            flush_and_read_back(
                standby, self.image.tables.regulars, filled.plan, carried, filled.proven, emit,
                fallen_back=filled.fallen_back, copies=copies,
            )  # fmt: skip
            write_slot_index(standby, self.image, filled.plan, before, carried)
        if self.self_confirm and self.session.backend.boots_machines:
            policy = signer_policy(self.device, self.session.record)
            require_confirmable(self.device, standby, self.image, policy)

    def _install(self, standby: Path, emit: Emit) -> None:
        backend = self.session.backend
        files = None
        if backend.needs_boot_files:
            emit(PhaseStarted(Phase.BOOT, "copying kernel and initrd to the boot partition"))
            files = boot_files(self.device, self.slot, self.image, standby, self.intended.txn)
        ops.apply(backend.install(self.device, self.slot, files, standby))
