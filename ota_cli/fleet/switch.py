"""`activate`, `rollback` and `switch-slot` of many ECUs, what is not an update's own."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from ..confirm import give_up
from ..core.requests import AskSwitch
from ..errors import Busy, EcusDiffer, SlotUnusable
from ..events import Emit
from ..host import store
from ..model import Device, other_slot
from ..trial import (
    Agreement,
    Staged,
    Switched,
    activate,
    note_joint,
    rollback,
    switch_slot,
    view_session,
)
from .disarm import disarm_below
from .link import Links


def own_switch(device: Device, order: AskSwitch, emit: Emit) -> Callable[[Agreement], Switched]:
    """What `order` means for this ECU."""
    if order.kind == "activate":
        only = Staged(order.staged, order.version) if order.staged else None
        return lambda agreement: activate(device, emit, agreement, order.txn, only)
    if order.kind == "rollback":
        return lambda agreement: rollback(device, emit, agreement, order.txn)
    return lambda agreement: switch_slot(
        device, order.slot, order.trust_record, emit, agreement, order.txn
    )


def staged_here(device: Device) -> Staged:
    """What `activate` of all ECUs arms. Raises SlotUnusable."""
    session = view_session(device)
    known = session.record.slots[other_slot(session.running)]
    if known.state not in ("staged", "armed"):
        raise SlotUnusable(
            "nothing is staged on this ECU, so that it is not known what was on the others",
            hint="run the same `ota update` again: what is staged is kept",
            slug="not-staged",
        )
    return Staged(known.txn, known.version)


def begun(device: Device) -> Optional[str]:
    """The transaction that is armed or on trial here, or on the ECUs that this one decides for."""
    session = view_session(device)
    record, last = session.record, session.record.transaction
    if session.on_trial or session.armed is not None:
        return last.txn if last is not None else None
    joint = record.joint
    if joint is None or joint.takes_part or not joint.decides or joint.decided:
        return None
    return joint.txn


def take_back(device: Device, txn: str, emit: Emit) -> Optional[Switched]:
    """Nothing that `txn` armed is tried or confirmed, here and below; what runs it returns.

    None where nothing was armed or on trial on this ECU itself. Raises EcusDiffer, naming them,
    where that is not certain of some; this ECU then keeps what it has, to be asked again.
    """
    if give_up(device, txn, "`ota rollback` took it back", emit) is not None:
        raise Busy(
            "it is decided already that the new system stays",
            hint="`ota commit` here tells all ECUs; then `ota rollback --all` goes back",
            slug="decided",
        )
    with Links(device) as links:
        uncertain = disarm_below(device, links, txn, ())
    if uncertain:
        reasons: Tuple[str, ...] = tuple(each.why.message for each in uncertain)
        raise EcusDiffer(
            f"not all ECUs could be told: {'; '.join(reasons)}",
            hint="run the same `ota rollback` again, or `ota rollback` here and there",
        )
    session = view_session(device)
    if session.on_trial or session.armed is not None:
        return rollback(device, emit)
    with store.exclusive(device):
        note_joint(device, None)
    return None
