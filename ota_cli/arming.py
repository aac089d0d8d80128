"""The switch: from here on the next boot tries another system."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Optional, Sequence, Tuple

from .boot.base import Backend
from .core import record as phases
from .core.record import JointCommit
from .core.transitions import transitions
from .errors import Footprint, OtaError, leaving
from .events import Changed, Emit
from .host import ops, store
from .host.interrupts import deferred
from .model import Bootable, BootState, Device


def arm(
    device: Device, backend: Backend, bootable: Bootable, joint: Optional[JointCommit]
) -> Tuple[Changed, ...]:
    """Records the intent, then one atomic write by the boot back-end.

    `joint`: how it is confirmed together with other ECUs. What has changed is to be told once all
    of them have switched: who is told may be slow. Raises BootRefused, NoSpace, SlotUnusable and
    NeedsRoot; then nothing is armed, unless not even that can be written.
    """
    record, boot = store.load_record(device), backend.read(device)
    last = record.transaction
    assert last is not None
    switch = backend.arm(device, boot, bootable)
    if boot.trial is None and boot.txn == bootable.txn:  # what an earlier trial of it left
        ops.apply(backend.revert(device, boot))
        boot = backend.read(device)
        switch = backend.arm(device, boot, bootable)
    marks = (store.given_up_mark(device), store.decided_mark(device))
    ops.apply([ops.Remove(mark) for mark in marks])
    armed = replace(last, phase=phases.ARMED, armed_in=store.boot_id(device))
    intended = replace(record.with_state(bootable.slot, "armed"), transaction=armed, joint=joint)
    store.save_record(device, intended)
    with leaving(Footprint.BOOT), deferred():
        try:
            ops.apply(switch)
        except OtaError:
            _undo(device, backend, replace(boot, trial=bootable.slot))
            raise
    return transitions(record, intended)


def tell_armed(changes: Sequence[Changed], emit: Emit) -> None:
    """What `arm` has changed."""
    with leaving(Footprint.BOOT):
        for change in changes:
            emit(change)


def _undo(device: Device, backend: Backend, armed: BootState) -> None:
    """As much as can be done: what the boot loader has been told first, for it needs no room."""
    for back in (backend.lead_back, backend.revert):
        with suppress(OtaError):
            ops.apply(back(device, armed))
