"""The story of `ota setup`: making a device one that `ota` can update, and mending that.

    refuse     no slot runs, no boot loader, no boot partition, grub.cfg ignores custom.cfg
    record     which partition /boot is
    adopt      kernel and initrd of the running system become its slot's boot files
    settings   what boots: the running system, known to work
    integrate  last of all the boot loader is told to obey the settings
    refresh    on request: the newest kernel of the running system becomes what it boots
    units      what ends a trial boot, and what follows the kernel packages

Until `integrate` the device boots as it always did; each step is skipped where it was done.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from .boot import layout, partition
from .boot.base import Backend, backend_for
from .core import cmdline
from .core.claims import parse_date
from .core.hooks import hooks
from .core.record import Record
from .core.systemd import VERIFIER_PATH, VERIFIER_TEXT, VERIFIER_UNIT, units
from .errors import (
    BootRefused,
    Busy,
    ConfigError,
    ImageDamaged,
    NeedsRoot,
    NotTrusted,
    SlotUnusable,
)
from .events import Emit, Note, Warned
from .host import ops, store
from .host.mounts import enter_private_namespace
from .host.ops import Link, MakeDirectory, Op, WriteFile
from .host.units import holds_unit
from .host.watchdog import watchdog_advice
from .model import (
    SLOT_NAMES,
    BootState,
    Device,
    SlotBoot,
    SlotName,
    other_slot,
)
from .ownkernel import ADOPTED_TXN, adopted_files, brought
from .policy import trust
from .probe import require_running
from .remember import remember
from .slots import needs_mounts, running_root
from .verify import stored_image


@dataclass(frozen=True)
class SetupReport:
    """What `ota setup` found and did. `changes`: sentences; empty when all was in order.

    `boot_partition`: `UUID=...` or `directory`. `default`: the slot that boots.
    """

    loader: str
    boot_partition: str
    running: SlotName
    default: Optional[SlotName]
    changes: Tuple[str, ...]


class _Step(NamedTuple):
    """Ops that belong together and the sentence that reports them."""

    change: str
    ops: List[Op]


def check_boot_partition(device: Device) -> None:
    """Raises SlotUnusable unless `/boot` is the partition that `ota setup` recorded."""
    wanted = partition.recorded(device)
    if wanted is None:
        raise SlotUnusable(
            f"{partition.record_path(device)} is missing or damaged: "
            f"{partition.shared(device)} is not the boot partition, or the device is not set up",
            hint=f"mount the boot partition on {partition.shared(device)}, or run `ota setup` on a "
            "new device",
            slug="boot-not-recorded",
        )
    found = partition.identify(device)
    if found != wanted:
        raise SlotUnusable(
            f"{partition.shared(device)} is {found}, but `ota setup` recorded {wanted}",
            hint="mount the right partition; `ota setup --repair` accepts this one",
            slug="wrong-boot-partition",
        )


def setup(device: Device, *, repair: bool, emit: Emit, refresh: bool = False) -> SetupReport:
    """Installs the boot integration, or completes what is missing of it; `repair` also replaces
    what is damaged, and `refresh` makes the running system boot its newest kernel.

    Raises BootRefused, SlotUnusable, ConfigError, Busy, NoSpace and NeedsRoot; the device then
    boots as before.
    """
    running = require_running(device)
    with store.exclusive(device):
        backend = backend_for(device)
        found = _settings(device, backend, repair)
        trial = _require_confirmed(device, found, running, repair)
        integration = _integration(device, backend, trial)
        work = _Setup(device, backend, found, running, trial, repair, emit)
        changes = [work.do(step) for step in work.steps()]
        if integration:
            changes.append(work.do(_Step("the boot loader obeys ota's settings", integration)))
        if refresh:
            changes += [work.do(step) for step in _refresh(device, backend, running)]
        changes += [work.do(step) for step in _unit_steps(device)]
        default = backend.read(device).default
    if backend.boots_machines and device.is_this_machine:
        hint = watchdog_advice()
        if hint:
            emit(Note(hint))
    identity = partition.identify(device)
    return SetupReport(device.loader or "", identity, running, default, tuple(changes))


class _Found(NamedTuple):
    """The settings there were. `whole`: they need no rewriting."""

    state: Optional[BootState]
    whole: bool


def _settings(device: Device, backend: Backend, repair: bool) -> _Found:
    """What the settings say; what can be saved of them when they are damaged and `repair`.

    On a device that was never updated, settings that the boot loader does not obey are those of a
    setup that was broken off.
    """
    try:
        return _Found(backend.stored(device), True)
    except BootRefused as error:
        if error.slug == layout.NOT_SET_UP:
            return _Found(None, False)
        if not repair and not _was_broken_off(device, backend):
            raise
        return _Found(backend.salvage(device), False)


def _was_broken_off(device: Device, backend: Backend) -> bool:
    """Whether the boot loader was never told to go by the settings, so that none can be lost."""
    try:
        backend.read(device)
    except BootRefused as error:
        is_untold = error.slug == layout.NOT_SET_UP
        return is_untold and store.load_record(device).transaction is None
    return False


def _require_confirmed(device: Device, found: _Found, running: SlotName, repair: bool) -> bool:
    """Whether an unconfirmed trial runs, which only a repair may see. Raises Busy."""
    if not cmdline.parse(device.cmdline).trial:
        return False
    if found.state is not None:
        trial = found.state.default != running
    else:
        trial = not layout.holds_something(layout.good_mark(device, running))
    if trial and not repair:
        raise Busy(
            f"the system in slot {running} runs on trial and is not confirmed",
            hint="`ota commit` confirms it; `ota rollback` returns to the old one",
            slug="trial-unconfirmed",
        )
    return trial


@dataclass(frozen=True)
class _Setup:
    """One run of `ota setup`. `trial`: the running system is not confirmed."""

    device: Device
    backend: Backend
    found: _Found
    running: SlotName
    trial: bool
    repair: bool
    emit: Emit

    def do(self, step: _Step) -> str:
        """Does a step and says what changed."""
        ops.apply(step.ops, self.emit)
        return step.change

    def steps(self) -> Iterator[_Step]:
        """What is to be done, each looked up when those before are done."""
        yield from self._record_partition()
        yield from self._adopt()
        if not self.found.whole:
            state = self.found.state or self._fresh()
            change = "the boot settings were written"
            yield _Step(change, self.backend.initialize(self.device, state))
        yield from self._keep_running()
        yield from self._remember()

    def _record_partition(self) -> Iterator[_Step]:
        device = self.device
        identity = partition.identify(device)
        known = self._recorded_partition()
        if known == identity:
            return
        if known is not None and not self.repair:
            check_boot_partition(device)
        directories = [MakeDirectory(layout.slot_directory(device, slot)) for slot in SLOT_NAMES]
        record = WriteFile(partition.record_path(device), partition.format_record(identity))
        yield _Step(f"the boot partition is {identity}", [*directories, record])

    def _recorded_partition(self) -> Optional[str]:
        """None also for a record that can not be read and is replaced."""
        try:
            return partition.recorded(self.device)
        except SlotUnusable as error:
            if not self.repair:
                raise
            self.emit(Warned(error.message))
            return None

    def _adopt(self) -> Iterator[_Step]:
        """The running system's boot files, where its slot has none that are whole."""
        device, backend, running = self.device, self.backend, self.running
        if backend.is_intact(device, running):
            return
        if needs_mounts(device):
            enter_private_namespace()
        with running_root(device) as tree:
            if not backend.needs_boot_files:
                adoption = backend.install(device, running, None, tree)
                yield _Step(f"slot {running} is adopted", adoption)
                return
            files = adopted_files(device, running, tree)
            change = f"slot {running} boots a copy of {files.kernel.path.name}"
            yield _Step(change, backend.install(device, running, files))

    def _fresh(self) -> BootState:
        """Settings for a device that has none: the running system boots.

        After a trial whose settings were lost, the other slot boots when it can: the running
        system still has to prove itself.
        """
        slots = {slot: self._marks(slot) for slot in SLOT_NAMES}
        other = other_slot(self.running)
        default = other if self.trial and slots[other].ready else self.running
        return BootState(default, None, slots)

    def _marks(self, slot: SlotName) -> SlotBoot:
        good = layout.holds_something(layout.good_mark(self.device, slot))
        return SlotBoot(self.backend.is_intact(self.device, slot), good)

    def _keep_running(self) -> Iterator[_Step]:
        """The running system is good, and the default unless another bootable one is."""
        state = self.backend.stored(self.device)
        default, running = state.default, self.running
        other_boots = default == other_slot(running) and state.slots[other_slot(running)].ready
        if self.trial or other_boots:
            return
        if default == running and state.slots[running].good:
            marked = self.backend.mark_good(self.device, running)
            if marked:
                yield _Step(f"slot {running} is marked as known to work", marked)
        else:
            change = f"slot {running} is what boots and is known to work"
            settled = self.backend.commit(self.device, state, running)
            yield _Step(change, [*settled, *self.backend.mark_good(self.device, running)])

    def _remember(self) -> Iterator[_Step]:
        """A record in which every slot that is known to work has a state."""
        known = self._record()
        record = known or Record()
        for slot, boot in self.backend.stored(self.device).slots.items():
            if boot.ready and boot.good and record.slots[slot].state in ("unknown", "empty"):
                record = record.with_slot(
                    slot, state="adopted", since=store.now(), txn=ADOPTED_TXN,
                    **self._identity(slot, record),
                ).with_time_of(slot)  # fmt: skip
        record = self._without_future(record)
        if record != known:
            remember(self.device, known or Record(), record, self.emit)
            yield _Step("what runs is on record", [])

    def _without_future(self, record: Record) -> Record:
        """A publisher's clock may have been ahead: only a person can say that ours is right."""
        floor = record.time_floor
        if not self.repair or floor is None or parse_date(floor) <= datetime.now(timezone.utc):
            return record
        self.emit(Warned(f"a confirmed image says that it was made on {floor}: not relied on"))
        return replace(record, time_floor=None)

    def _identity(self, slot: SlotName, record: Record) -> Dict[str, Optional[str]]:
        """Which image the running slot was filled from, if it says so and is trusted."""
        if slot != self.running:
            return {}
        if needs_mounts(self.device):
            enter_private_namespace()
        with running_root(self.device) as tree:
            if tree is None:
                return {}
            with suppress(SlotUnusable, NotTrusted, ImageDamaged, NeedsRoot):
                image = stored_image(tree, *trust(self.device, record))
                created = image.claims.details.created
                return {
                    "version": image.version,
                    "image_id": image.image_id,
                    "created": created.isoformat() if created else None,
                }
        return {}

    def _record(self) -> Optional[Record]:
        """What the device remembers; None when that is damaged and repaired."""
        try:
            return store.load_record(self.device)
        except ConfigError as error:
            if not self.repair:
                raise
            self.emit(Warned(f"{error.message}; what it said is lost"))
            return None


def _integration(device: Device, backend: Backend, trial: bool) -> List[Op]:
    """What makes the boot loader obey; a system on trial only completes what is missing.

    It may be the one that fails, and then the older system has to live with its rule.
    """
    ops_needed = backend.integrate(device)
    with suppress(BootRefused):
        backend.read(device)
        return [] if trial else ops_needed
    return ops_needed


def _refresh(device: Device, backend: Backend, running: SlotName) -> Iterator[_Step]:
    """The newest kernel that has its modules in the running system, beside the one that boots."""
    if not backend.needs_boot_files:
        return
    if needs_mounts(device):
        enter_private_namespace()
    with running_root(device) as tree:
        found = brought(device, running, tree or device.root)
        needed = backend.refresh(device, running, *found) if found else []
        if found and needed:
            yield _Step(f"slot {running} boots a copy of {found.kernel.path.name}", needed)


def _unit_steps(device: Device) -> Iterator[_Step]:
    """The units of the running system; only on this machine, and only where systemd is."""
    directory = device.root / "etc" / "systemd" / "system"
    if not device.is_this_machine or not directory.is_dir():
        return
    for unit in units():
        path = directory / unit.name
        link = directory / f"{unit.wanted_by}.wants" / unit.name
        if _holds(path, unit.text) and link.exists():
            continue
        yield _Step(
            f"{unit.name} is enabled",
            [
                WriteFile(path, unit.text.encode()),
                MakeDirectory(link.parent),
                Link(link, f"../{unit.name}"),
            ],
        )
    verifier = device.root / VERIFIER_PATH[1:]
    if holds_unit(device.root, VERIFIER_UNIT) and not _holds(verifier, VERIFIER_TEXT):
        dropped_in = WriteFile(verifier, VERIFIER_TEXT.encode())
        change = f"{VERIFIER_UNIT} leaves a trial to `ota commit`"
        yield _Step(change, [MakeDirectory(verifier.parent), dropped_in])
    for hook in hooks():
        path = device.root / hook.path[1:]
        if not path.parent.parent.is_dir() or _is_hook(path, hook.text):
            continue
        written: List[Op] = [MakeDirectory(path.parent), WriteFile(path, hook.text.encode(), 0o755)]
        yield _Step(f"{hook.path} is in place", written)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def _is_hook(path: Path, text: str) -> bool:
    return _holds(path, text) and os.access(path, os.X_OK)
