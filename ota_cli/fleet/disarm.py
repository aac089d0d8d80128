"""Taking back what one transaction armed, on this ECU and below. Idempotent."""

from __future__ import annotations

from typing import List, Optional, Sequence

from ..core.requests import AskDisarm
from ..events import Emit
from ..host import store
from ..model import Device, Secondary
from ..trial import open_session, stay
from .insist import Uncertain, insist
from .link import Links


def disarm_here(device: Device, txn: str, emit: Emit) -> bool:
    """The next boot does not try what `txn` armed; True where it would have.

    Once this returned, under the device's lock, an interrupted arming of `txn` can not happen
    any more: it would have needed the lock. Raises Busy where the new system runs already.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        last = session.record.transaction
        if session.on_trial and last is not None and last.txn == txn:
            session.require_confirmed()
        if session.boot.trial is None or session.boot.txn != txn:
            return False
        stay(session, emit)
        return True


def disarm_below(
    device: Device,
    links: Links,
    txn: str,
    above: Sequence[str],
    secondaries: Optional[Sequence[Secondary]] = None,
) -> List[Uncertain]:
    """Takes back what `txn` armed on the secondaries, all by default, and below them.

    Those that could not be made to say so are returned.
    """
    chosen = device.ecu.secondaries if secondaries is None else secondaries
    _, uncertain = insist(links, AskDisarm((*above, device.ecu.ecu_id), txn), chosen)
    return uncertain
